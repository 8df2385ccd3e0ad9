"""Published data sets as a user meets them: listed, fetched, put into a recipe, prepared, and shown on the card."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from tests.web import Web
from trainyard.cli import app
from trainyard.data.catalogue import names, recipe_text
from trainyard.data.packed import Card
from trainyard.data.prepare import prepare
from trainyard.data.sources import KINDS
from trainyard.errors import InputError
from trainyard.recipe import read_recipe
from trainyard.recipe_text import add_recipe

RANDOM = np.random.default_rng(0)
Files = dict[str, bytes]


def picture(seed: int, form: str) -> bytes:
    """Return an image file of 40 x 30 pixels, or a mask of it with 1, 2 and 3, half of it 1."""
    content = io.BytesIO()
    if form == "png":
        Image.fromarray(np.random.default_rng(seed).choice([1, 1, 2, 3], (30, 40)).astype(np.uint8)).save(content, "PNG")
    else:
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(content, "JPEG")
    return content.getvalue()


def packed(members: Files) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, member in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(member)
            archive.addfile(info, io.BytesIO(member))
    return content.getvalue()


def small_idx() -> Files:
    files = {}
    for split, count in (("train", 100), ("t10k", 20)):
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", (np.arange(count) % 10).astype(np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
            files[f"{split}-{kind}-ubyte.gz"] = gzip.compress(head + array.tobytes())
    return files


def small_cifar() -> Files:
    members = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\ncat\n\n"}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = RANDOM.integers(0, 256, (8, 3073), dtype=np.uint8)
        batch[:, 0] = np.arange(8) % 2
        members[f"cifar-10-batches-bin/{name}.bin"] = batch.tobytes()
    return {"cifar-10-binary.tar.gz": packed(members)}


def small_pets() -> Files:
    pets = [f"cat_{number}" for number in range(12)]
    images = {f"images/{name}.jpg": picture(seed, "jpg") for seed, name in enumerate([*pets, "unlisted_1"])}
    # One of the published files is no image at all, and some masks have a shadow that another system left.
    images["images/cat_3.jpg"] = b"GIF89a is not what this is"
    masks = {f"annotations/trimaps/{name}.png": picture(seed, "png") for seed, name in enumerate([*pets, "unlisted_1"])}
    lists = {
        "annotations/trainval.txt": "".join(f"{name} 1 1 1\n" for name in pets[:9]).encode(),
        "annotations/test.txt": "".join(f"{name} 1 1 1\n" for name in pets[9:]).encode(),
    }
    return {
        "images.tar.gz": packed({**images, "images/cat_1.mat": b"x"}),
        "annotations.tar.gz": packed({**masks, "annotations/trimaps/._cat_1.png": b"x", **lists}),
    }


def small_series() -> Files:
    names = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    values = RANDOM.normal(10, 2, (14500, 7))
    hours = np.datetime64("2016-07-01T00") + np.arange(len(values))
    rows = [
        f"{str(hour).replace('T', ' ')}:00:00,{','.join(f'{value:.3f}' for value in row)}"
        for hour, row in zip(hours, values, strict=True)
    ]
    return {"ETTh1.csv": "\n".join([",".join(["date", *names]), *rows]).encode()}


SMALL = {
    "mnist": small_idx,
    "fashion_mnist": small_idx,
    "cifar10": small_cifar,
    "oxford_pets": small_pets,
    "etth1": small_series,
}


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the catalogue and no recipes; nothing of it may come from the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAINYARD_DOWNLOADS", raising=False)
    monkeypatch.setenv("TRAINYARD_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shutil.copytree(root / "data" / "catalogue", tmp_path / "data" / "catalogue")
    (tmp_path / "params.yaml").write_text("recipes:\n")
    return tmp_path


def publish(project: Path, name: str, mirror: Path) -> None:
    """Put a small set of the same form where the mirror is, and its sizes and hashes into the descriptor."""
    files = SMALL[name]()
    path = project / "data" / "catalogue" / f"{name}.yaml"
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(path)
    (mirror / name).mkdir(parents=True)
    for file in values["files"]:
        content = files[file["name"]]
        (mirror / name / file["name"]).write_bytes(content)
        file.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    YAML(typ="safe", pure=True).dump(values, path)


def trainyard(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "trainyard.cli", *arguments], capture_output=True, text=True)


def said(*arguments: str) -> str:
    """Return what a command that succeeds says, run in this process."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def recipe_of(project: Path, name: str) -> Any:
    """Return the recipe that `trainyard new` suggests for a data set."""
    add_recipe(project / "params.yaml", "mine", recipe_text(project, "mine", name, ""))
    return read_recipe(project / "params.yaml", "mine")


def prepared(project: Path, name: str, said: list[str] | None = None) -> Card:
    recipe = recipe_of(project, name) if "mine" not in (project / "params.yaml").read_text() else None
    recipe = recipe or read_recipe(project / "params.yaml", "mine")
    progress = said.append if said is not None else None
    return prepare("mine", recipe.data, project / "prepared", scratch=project / "scratch", progress=progress)


@pytest.mark.parametrize(
    ("name", "samples", "classes"),
    [
        ("mnist", {"train": 90, "val": 10, "test": 20}, 10),
        ("cifar10", {"train": 36, "val": 4, "test": 8}, 2),
        ("oxford_pets", {"train": 7, "val": 1, "test": 3}, 3),
        ("etth1", {"train": 8209, "val": 2785, "test": 2785}, 7),
    ],
)
def test_a_data_set_goes_from_its_name_to_a_card_with_its_licence(
    project: Path, name: str, samples: dict[str, int], classes: int
) -> None:
    publish(project, name, project / "mirror")
    card = prepared(project, name)
    assert (card.samples, len(card.classes)) == (samples, classes)
    descriptor = YAML(typ="safe", pure=True).load(project / "data" / "catalogue" / f"{name}.yaml")
    assert card.origin["licence"] == descriptor["licence"]["name"]
    assert card.about.startswith(descriptor["about"][:20])
    assert json.loads((project / "prepared" / "card.json").read_text())["origin"] == card.origin
    page = (project / "prepared" / "card.html").read_text()
    assert f"Licence: {descriptor['licence']['name']}, <a href=" in page
    assert f"Cite: {descriptor['citation'].split(':')[0]}" in page


def test_the_published_split_of_the_pets_is_kept_and_the_odd_file_left_out(project: Path) -> None:
    publish(project, "oxford_pets", project / "mirror")
    card = prepared(project, "oxford_pets")
    assert [problem["where"] for problem in card.skipped] == ["train/images/cat_3.jpg"]
    assert not [problem for problem in card.warnings if problem["rule"] in ("stray-files", "mixed-layout")]
    total = sum(card.counts["train"].values())
    assert total == 7 * 128 * 128 and card.counts["train"]["pet"] > 0.4 * total


def test_the_second_time_nothing_is_fetched(project: Path) -> None:
    publish(project, "mnist", project / "mirror")
    said: list[str] = []
    first = prepared(project, "mnist", said)
    assert said[1] == "licence of mnist: CC BY-SA 3.0, https://creativecommons.org/licenses/by-sa/3.0/"
    shutil.rmtree(project / "mirror")
    said.clear()
    assert prepared(project, "mnist", said).sha256 == first.sha256
    assert said == []


def test_a_descriptor_of_another_source_is_refused(project: Path) -> None:
    publish(project, "mnist", project / "mirror")
    recipe_of(project, "mnist")
    text = (project / "params.yaml").read_text().replace("catalogue/mnist.yaml", "catalogue/etth1.yaml")
    (project / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"etth1\.yaml: is for data\.source: series_csv, found idx_files; correct one"):
        prepared(project, "mnist")


@pytest.mark.parametrize("name", names(Path(__file__).parents[1]))
def test_every_suggested_recipe_is_a_good_one_and_fits_its_descriptor(project: Path, name: str) -> None:
    descriptor = YAML(typ="safe", pure=True).load(project / "data" / "catalogue" / f"{name}.yaml")
    if descriptor["source"] not in KINDS:
        pytest.skip(f"source {descriptor['source']} is not in this version")
    recipe = recipe_of(project, name)
    assert recipe.data.source == descriptor["source"]
    assert recipe.data.path == f"data/catalogue/{name}.yaml"


def test_new_datasets_fetch_and_check_by_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(project, "mnist", project / "mirror")
    with Web({f"/mnist/{path.name}": path.read_bytes() for path in (project / "mirror" / "mnist").iterdir()}) as web:
        monkeypatch.setenv("TRAINYARD_MIRROR", web.url)
        listed = said("datasets")
        assert "mnist" in listed and "fetched: no " in listed and "CC BY-SA 3.0" in listed and "fetched: yes" not in listed
        fetched = said("fetch", "mnist")
        assert f"mnist: whole and as published, in {project}/.trainyard/downloads/mnist" in fetched
        assert "licence: CC BY-SA 3.0" in fetched and "trainyard new NAME --data mnist" in fetched
        assert len(web.asked) == 4
        assert "fetched: yes" in said("datasets")
        assert "Next: trainyard check digits" in said("new", "digits", "--data", "mnist")
        assert "data: 90 train, 10 val, 20 test samples, no errors" in said("check", "digits")
        assert len(web.asked) == 4


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("fetch", "mnits"), "mnits: no such data set in data/catalogue; it has ag_news, cifar10", 2),
        (("new", "mine", "--data", "mnist", "--family", "unet"), "family unet: does not learn from mnist", 2),
        (
            ("fetch", "mnist"),
            "mirror/mnist/train-images-idx3-ubyte.gz: the mirror has no such file; put it there. Ways out:",
            4,
        ),
    ],
)
def test_what_cannot_be_done_is_one_headline(project: Path, arguments: tuple[str, ...], said: str, code: int) -> None:
    done = trainyard(*arguments)
    assert done.returncode == code
    assert (said in done.stderr and done.stderr.startswith("ERROR: ")) or "  fetches" in done.stderr
    assert "Traceback" not in done.stderr
    assert (project / "params.yaml").read_text() == "recipes:\n"
