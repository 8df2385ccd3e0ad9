"""What the readers of some pages have before they type: files of theirs, and the recipes that come with the project."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tests.pipeline.conftest import Project

ROOT = Path(__file__).parents[2]


def whole_recipes(project: Project) -> None:
    """The recipes of this project, not small ones."""
    shutil.copy2(ROOT / "params.yaml", project.folder)
    project.run("git", "commit", "-q", "-a", "-m", "recipes")


def cats(project: Project) -> None:
    """A folder of images by class; digits stand for cats."""
    images, digits = load_digits(n_class=3, return_X_y=True)
    for number, (image, digit) in enumerate(zip(images.reshape(-1, 8, 8), digits, strict=True)):
        folder = project.folder / "data" / "raw" / "cats" / f"cat{digit}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).save(folder / f"{number}.png")


def mails(project: Project) -> None:
    """A table of texts."""
    subjects = {"bill": "please pay the amount that is due", "party": "come and dance with all of us"}
    rows = [
        f"{kind},Number {number}: {text} on day {number * 7 % 31}" for number in range(60) for kind, text in subjects.items()
    ]
    (project.folder / "data" / "raw").mkdir(parents=True, exist_ok=True)
    (project.folder / "data" / "raw" / "mails.csv").write_text("\n".join(["topic,body", *rows]) + "\n")


BRING: dict[str, tuple[Callable[[Project], None], ...]] = {
    "docs/tables.md": (mails,),
    "docs/tutorials/first-cluster.md": (whole_recipes,),
    "docs/tutorials/first-run.md": (whole_recipes,),
    "docs/tutorials/own-images.md": (whole_recipes,),
    "docs/tutorials/own-masks.md": (whole_recipes,),
    "docs/tutorials/own-series.md": (whole_recipes,),
    "docs/tutorials/own-texts.md": (whole_recipes,),
    "docs/your-data.md": (cats,),
}
