from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.disks import Disks
from trainyard.cli import app
from trainyard.data.numpy_arrays import NumpyArraysConfig
from trainyard.data.prepare import prepare
from trainyard.errors import InputError

RECIPE = """\
recipes:
  cells:
    family: {family}
    data: {{source: numpy_arrays, path: raw, classes: [none, cell]}}
    model: {{{model}}}
    train: {{epochs: 1, batch_size: 8, optimizer: adam, learning_rate: 1e-3}}
    evaluate: {{}}
    export: {{}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A params.yaml with one recipe, and its data."""
    (tmp_path / "params.yaml").write_text(RECIPE.format(family="cnn", model="widths: [8]"))
    (tmp_path / "raw").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "raw" / "images.npy", images)
    np.save(tmp_path / "raw" / "labels.npy", np.arange(40) % 2)
    return tmp_path


def trainyard(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "trainyard.cli", *arguments], cwd=folder, capture_output=True, text=True)


def test_good_data_are_counted(project: Path) -> None:
    done = trainyard(project, "check", "cells")
    assert done.returncode == 0, done.stderr
    assert "data: 28 train, 4 val, 8 test samples, no errors" in done.stdout
    assert done.stdout.splitlines()[-1] == "Next: dvc repro export@cells; how long it would take: trainyard plan cells"


def test_bad_data_end_with_one_headline_a_problem_and_nothing_is_written(project: Path) -> None:
    np.save(project / "raw" / "labels.npy", np.arange(40))
    done = trainyard(project, "check")
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: raw: 1 problem\n  ./labels.npy: 38 samples (2, 3, 4, 5, 6, ...)")
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in project.iterdir()) == ["params.yaml", "raw"]


def test_problems_are_told_to_programs_as_json(project: Path) -> None:
    np.save(project / "raw" / "labels.npy", np.arange(39) % 2)
    done = trainyard(project, "check", "cells", "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert (found["recipe"], found["path"]) == ("cells", "raw")
    assert [problem["rule"] for problem in found["problems"]] == ["labels-type"]


def test_problems_of_all_recipes_are_one_list_of_json(project: Path) -> None:
    block = (project / "params.yaml").read_text().split("recipes:\n")[1]
    other = block.replace("cells:", "more:").replace("path: raw", "path: row")
    (project / "params.yaml").write_text(f"recipes:\n{block}{other}")
    done = trainyard(project, "check", "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert [document["recipe"] for document in found] == ["cells", "more"]
    assert [len(document["problems"]) for document in found] == [0, 1]
    assert found[0]["samples"] == {"train": 28, "val": 4, "test": 8}


def test_what_is_wrong_with_one_recipe_keeps_nothing_of_the_others_back(project: Path) -> None:
    block = (project / "params.yaml").read_text().split("recipes:\n")[1]
    wide = block.replace("cells:", "wide:").replace("[8]", "[8, 8, 8, 8]")
    gone = block.replace("cells:", "gone:").replace("path: raw", "path: row")
    (project / "params.yaml").write_text(f"recipes:\n{wide}{gone}{block}")
    done = trainyard(project, "check")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith(
        "ERROR: model: needs images of at least 16 pixels a side, the data are 8 x 8; use fewer model.widths"
    )
    assert second.startswith("ERROR: row: no such file or folder")
    assert done.stdout.count("no errors") == 1 and done.stdout.endswith("samples, no errors\n")


def test_warnings_are_told_and_do_not_fail(project: Path) -> None:
    images = np.load(project / "raw" / "images.npy")
    images[1] = images[0]
    np.save(project / "raw" / "images.npy", images)
    done = trainyard(project, "check", "cells")
    assert done.returncode == 0
    assert "warning: sample 1: 1 pair: sample 1 (cell) = sample 0 (none); one label for one input" in done.stdout


def test_samples_that_equal_others_are_counted_where_a_recipe_is_checked(project: Path) -> None:
    images = np.load(project / "raw" / "images.npy")
    images[2] = images[0]
    np.save(project / "raw" / "images.npy", images)
    done = trainyard(project, "check", "cells")
    assert "data: 27 train, 4 val, 8 test samples, no errors; 1 more was left out, which equals one of them" in done.stdout


def test_a_path_that_does_not_exist_is_named(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("path: raw", "path: row"))
    done = trainyard(project, "check", "cells")
    assert done.returncode == 2
    assert "ERROR: row: no such file or folder" in done.stderr


@pytest.fixture
def packed(project: Path) -> Path:
    """The packed data set of the project's recipe."""
    folder = project / "data" / "prepared" / "cells"
    folder.parent.mkdir(parents=True)
    config = NumpyArraysConfig(source="numpy_arrays", path="raw", classes=("none", "cell"))
    prepare("cells", config, folder, root=project, scratch=project / "scratch")
    return folder


def test_whole_packed_data_are_verified_and_those_not_yet_prepared_are_named(project: Path, packed: Path) -> None:
    block = (project / "params.yaml").read_text().split("recipes:\n")[1]
    (project / "params.yaml").write_text(f"recipes:\n{block}{block.replace('cells:', 'more:')}")
    done = trainyard(project, "verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "cells: OK, 6 files as they were packed, 28 train, 4 val, 8 test samples",
        "more: not prepared yet; dvc repro prepare@more",
    ]


@pytest.mark.parametrize("damage", ["a bit", "an array that is gone", "no card"])
def test_damaged_packed_data_end_with_the_file_and_code_5(project: Path, packed: Path, damage: str) -> None:
    path = packed / ("card.json" if damage == "no card" else "val/images.npy")
    if damage == "a bit":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    done = trainyard(project, "verify", "cells")
    assert done.returncode == 5
    assert done.stderr.startswith(f"ERROR: {path.relative_to(project)}: ") and "`dvc repro`" in done.stderr
    assert "OK" not in done.stdout


@pytest.mark.parametrize("data", ["", ".", ".."])
def test_a_folder_that_holds_the_project_is_not_taken_for_data(
    project: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    monkeypatch.chdir(project)
    before = (project / "params.yaml").read_text()
    with pytest.raises(
        InputError, match="holds the project itself; name the folder or table of the data, such as data/raw/more"
    ):
        CliRunner().invoke(app, ["new", "more", "--data", data], catch_exceptions=False)
    assert (project / "params.yaml").read_text() == before


def test_a_read_only_disk_is_named_without_a_traceback(project: Path, root: Path, disks: Disks) -> None:
    disks.make_read_only(disks.own(project))
    done = trainyard(project, "new", "more", "--data", "raw", "--like", str(root / "examples" / "mnist.yaml"))
    assert done.returncode == 3
    assert "the file system is read-only: make it writable" in done.stderr
    assert "Traceback" not in done.stderr
