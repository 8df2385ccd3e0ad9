from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.conftest import Project, make_project

pytestmark = pytest.mark.pipeline


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Project:
    """A project with a folder of pictures of its user's own."""
    made = make_project(root, tmp_path)
    generator = np.random.default_rng(0)
    for name, level in (("day", 200), ("night", 50)):
        (tmp_path / "data" / "raw" / "sky" / name).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(level - 40, level + 40, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / "raw" / "sky" / name / f"{number}.png")
    return made


def test_raw_data_under_dvc_are_watched_restored_and_kept_out_of_git(project: Project) -> None:
    trainyard = ("python", "-c", "from trainyard.cli import main; main()")
    project.environment["PYTHONPATH"] = "src"
    project.run(*trainyard, "new", "sky", "--family", "cnn", "--data", "data/raw/sky")
    project.run(*trainyard, "check", "sky")
    project.run("dvc", "add", "data/raw/sky")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "sky")
    assert project.run("git", "ls-files", "data/raw").split() == ["data/raw/.gitignore", "data/raw/sky.dvc"]
    assert project.stages_run(project.run("dvc", "repro", "prepare@sky")) == ["prepare@sky"]
    assert project.stages_run(project.run("dvc", "repro", "prepare@sky")) == []
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "prepared")

    picture = project.folder / "data" / "raw" / "sky" / "day" / "0.png"
    before, card = picture.read_bytes(), (project.folder / "data" / "prepared" / "sky" / "card.json").read_bytes()
    picture.unlink()
    Image.new("RGB", (16, 16), (250, 240, 10)).save(picture)
    assert project.stages_run(project.run("dvc", "repro", "prepare@sky")) == ["prepare@sky"]
    assert (project.folder / "data" / "prepared" / "sky" / "card.json").read_bytes() != card

    # The version of the last commit comes back, its packed data out of the cache.
    project.run("git", "checkout", "-q", "data/raw/sky.dvc", "dvc.lock")
    project.run("dvc", "checkout", "--force", "prepare@sky", "data/raw/sky.dvc")
    assert picture.read_bytes() == before
    assert project.stages_run(project.run("dvc", "repro", "prepare@sky")) == []
    assert (project.folder / "data" / "prepared" / "sky" / "card.json").read_bytes() == card
