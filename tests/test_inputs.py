from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from trainyard.inputs import HASHED_BYTES, Inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  train:\n    foreach: ${recipes}\n    do:\n      cmd: x\n"
        "      params:\n        - recipes.${key}.train\n"
        "      deps:\n        - ${item.data.path}\n        - code.py\n        - packed/${key}\n        - ${item.nothing}\n"
    )
    (tmp_path / "params.yaml").write_text(
        "recipes:\n  a:\n    train: {epochs: 1}\n    export: {runs: 1}\n    data: {path: raw.csv}\n"
    )
    (tmp_path / "raw.csv").write_bytes(b"x" * (HASHED_BYTES + 1))
    (tmp_path / "code.py").write_text("pass\n")
    (tmp_path / "packed" / "a" / "train").mkdir(parents=True)
    (tmp_path / "packed" / "a" / "train" / "images.npy").write_bytes(b"images")
    return tmp_path


def test_nothing_changed_is_nothing(folder: Path) -> None:
    inputs = Inputs("train@a", folder)
    assert set(inputs.files) == {"raw.csv", "code.py", "packed/a"}
    assert inputs.params == {"recipes.a.train": {"epochs": 1}}
    assert inputs.changes() == []


def test_a_parameter_of_the_stage_counts_and_one_of_another_does_not(folder: Path) -> None:
    inputs = Inputs("train@a", folder)
    path = folder / "params.yaml"
    path.write_text("# a remark\n" + path.read_text().replace("runs: 1", "runs: 2"))
    assert inputs.changes() == []
    path.write_text(path.read_text().replace("epochs: 1", "epochs: 2"))
    assert inputs.changes() == ["params.yaml: recipes.a.train"]
    path.write_text("recipes: {a: [")
    assert inputs.changes() == ["params.yaml: recipes.a.train"]


def test_code_counts_by_its_content(folder: Path) -> None:
    inputs = Inputs("train@a", folder)
    os.utime(folder / "code.py", (0, 0))
    (folder / "code.py").write_text("pass\n")
    assert inputs.changes() == []
    (folder / "code.py").write_text("raise\n")
    assert inputs.changes() == ["code.py"]


def test_a_large_file_and_every_file_of_a_folder_count_by_size_and_time(folder: Path) -> None:
    inputs = Inputs("train@a", folder)
    (folder / "raw.csv").write_bytes(b"x" * (HASHED_BYTES + 2))
    assert inputs.changes() == ["raw.csv"]
    inputs = Inputs("train@a", folder)
    (folder / "packed" / "a" / "train" / "images.npy").unlink()
    assert inputs.changes() == ["packed/a"]
    (folder / "code.py").unlink()
    assert inputs.changes() == ["code.py", "packed/a"]


def test_a_stage_that_is_not_there_has_no_inputs(folder: Path) -> None:
    assert Inputs("nothing@a", folder).changes() == []
    assert Inputs("train@a", folder / "nowhere").changes() == []


def test_an_edit_is_told_while_the_stage_still_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.inputs.LOOK_SECONDS", 0.02)
    told, heard = [], threading.Event()

    def say(text: str) -> None:
        told.append(text)
        heard.set()

    Inputs("train@a", folder).tell(say)
    path = folder / "params.yaml"
    text = path.read_text().replace("epochs: 1", "epochs: 2")
    # Written until it is seen, as an editor that saves does: the watcher may look for the first time only now.
    for attempt in range(6000):
        path.write_text(f"{text}# {attempt}\n")
        if heard.wait(0.05):
            break
    assert told and told[0].startswith("params.yaml: recipes.a.train: edited while this runs")
