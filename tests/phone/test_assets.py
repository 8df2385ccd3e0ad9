"""`trainyard android`: what the app reads of a bundle."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from tests.pages.node import decoded, encoded
from tests.phone import kotlin
from trainyard.cli import app as trainyard
from trainyard.data.packed import read_card
from trainyard.errors import InputError, IntegrityError
from trainyard.export.bundle import MANIFEST, read_bundle, write_manifest
from trainyard.export.config import EXECUTORCH
from trainyard.export.executorch_format import limits
from trainyard.models.spec import InputSpec
from trainyard.phone.assets import ASSETS, write_assets
from trainyard.serving.predictor import Predictor
from trainyard.serving.raw_inputs import Raw

PROGRAM = b"what ExecuTorch wrote"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder that has the place for models where the app has it."""
    manifest = tmp_path / "android" / "app" / "src" / "main" / "AndroidManifest.xml"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    return tmp_path / "android"


def spec_of(bundle: Path) -> InputSpec:
    return InputSpec.from_card(read_card(bundle.parents[1] / "packed"))


def with_program(bundle: Path, folder: Path) -> Path:
    """Return a copy of a bundle with a program in it, as export leaves one."""
    copy = Path(shutil.copytree(bundle, folder / "models" / bundle.name))
    about = {key: value for key, value in read_bundle(copy).items() if key not in ("format", "trainyard", "files", "sha256")}
    (copy / "formats").mkdir(exist_ok=True)
    (copy / "formats" / "model.pte").write_bytes(PROGRAM)
    constants = json.loads((copy / "preprocessing" / "constants.json").read_bytes())
    constants["executorch"] = {"batch": 1, "at_most": limits(spec_of(bundle))}
    (copy / "preprocessing" / "constants.json").write_text(json.dumps(constants))
    write_manifest(copy, copy, {**about, "formats": {**about["formats"], "executorch": "formats/model.pte"}})
    return copy


@pytest.mark.parametrize("name", ["photos", "cells", "reviews", "load"])
def test_the_app_gets_the_program_and_all_that_lies_between_a_file_and_it(
    name: str, models: dict[str, Path], app: Path, tmp_path: Path
) -> None:
    bundle = with_program(models[name], tmp_path)
    folder, size = write_assets(bundle, app)
    assert folder == app / ASSETS / json.loads((bundle / MANIFEST).read_bytes())["recipe"]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files["model.pte"] == PROGRAM and size == sum(map(len, files.values()))
    about = json.loads(files["model.json"])
    assert about["classes"] == json.loads((bundle / "labels.json").read_bytes())
    assert about["at_most"] == limits(spec_of(models[name]))
    assert {sample["file"] for sample in about["samples"]} == {file for file in files if "samples/" in file}
    assert ("tokenizer.json" in files) == (name == "reviews") == bool(about["tokenizer"])


def test_a_model_is_replaced_whole_and_the_others_stay(models: dict[str, Path], app: Path, tmp_path: Path) -> None:
    cells, reviews = (with_program(models[name], tmp_path) for name in ("cells", "reviews"))
    first, other = write_assets(cells, app)[0], write_assets(reviews, app)[0]
    (first / "left.txt").touch()
    write_assets(cells, app)
    assert not (first / "left.txt").exists() and (other / "model.pte").is_file()
    assert sorted(path.name for path in first.parent.iterdir()) == sorted([first.name, other.name])


def test_what_no_app_can_be_made_of_is_refused(models: dict[str, Path], app: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'has no program for a phone; add executorch .+ pip install "executorch>=1.5,<1.6"'):
        write_assets(models["cells"], app)
    with pytest.raises(InputError, match="holds no Android app; name the folder android"):
        write_assets(models["cells"], tmp_path)
    with pytest.raises(InputError, match="is no folder of a model"):
        write_assets(tmp_path / "absent", app)
    bundle = with_program(models["cells"], tmp_path)
    (bundle / "formats" / "model.pte").write_bytes(b"another one")
    with pytest.raises(IntegrityError, match=r"model\.pte: is not the file that bundle\.json lists"):
        write_assets(bundle, app)
    assert not (app / ASSETS).exists()


def test_the_command_says_where_it_put_the_model(models: dict[str, Path], app: Path, tmp_path: Path) -> None:
    bundle = with_program(models["load"], tmp_path)
    done = CliRunner().invoke(trainyard, ["android", str(bundle), "--app", str(app)])
    assert done.exit_code == 0, done.output
    assert " ".join(done.output.split()).endswith(f"MB; build the app as {app}/README.md says")


def test_the_apps_runtime_is_of_a_version_whose_programs_are_written(root: Path) -> None:
    versions = tomllib.loads((root / "android" / "gradle" / "libs.versions.toml").read_text())["versions"]
    assert Requirement(EXECUTORCH).specifier.contains(versions["executorch"])
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["phone"] == [EXECUTORCH]
    assert versions["kotlin"].startswith(f"{kotlin.LANGUAGE}.")


@pytest.mark.long
@pytest.mark.parametrize("name", ["photos", "cells", "reviews", "load"])
def test_a_program_is_fed_what_python_feeds_the_graph(name: str, models: dict[str, Path], app: Path, tmp_path: Path) -> None:
    bundle = with_program(models[name], tmp_path)
    folder, _ = write_assets(bundle, app)
    predictor = Predictor.load(bundle, threads=1)
    for path in sorted((folder / "samples").iterdir()):
        question, raw = asked_about(path)
        [answer] = kotlin.ask(folder, [question], tmp_path)
        first, *rest = (decoded(one["data"], one["type"], tuple(one["shape"])) for one in answer["inputs"])
        expected = predictor.sample(raw).array
        assert first.dtype == expected.dtype and np.array_equal(first, expected[None])
        assert [part.tolist() for part in rest] == ([] if path.suffix == ".png" else [[len(expected)]])


def asked_about(path: Path) -> tuple[dict[str, Any], Raw]:
    """Return what the app is asked about a file, and the same as Python takes it."""
    if path.suffix == ".png":
        return {"about": "fed", "png": encoded(path.read_bytes())}, path.read_bytes()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return {"about": "fed", "text": text}, text
    return {"about": "fed", "table": text}, np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
