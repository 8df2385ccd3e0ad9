from __future__ import annotations

import getpass
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, make_project
from tests.safety.canaries import canary, environment, found_in, watched_command_lines

pytestmark = pytest.mark.pipeline
PARAMS = """\
recipes:
  cnn:
    family: cnn
    data: {source: digits, path: requirements.lock, seed: 0, val_fraction: 0.15, test_fraction: 0.2}
    model: {widths: [8, 16], convolutions: 1, normalisation: group, dropout: 0.2}
    train: {epochs: 1, batch_size: 64, optimizer: adamw, learning_rate: 5e-3}
    evaluate: {bootstrap_samples: 20}
    gate: {on_fail: warn}
    export: {formats: [onnx, pt2], latency_runs: 2}
cluster:
  workers: 0
"""
IN_FILES = ("dvc_remote", "git_remote", "ray_token", "params")
SECRETS = [*environment(), *IN_FILES]


@pytest.fixture(scope="module")
def planted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, set[str], list[str]]:
    """A project with a secret in each place where one may stand; what it ran as command lines, and what it said."""
    folder = tmp_path_factory.mktemp("planted")
    for name in ("project", "home/.ray", "tmp"):
        (folder / name).mkdir(parents=True)
    project = make_project(root, folder / "project")
    (project.folder / "params.yaml").write_text(PARAMS)
    project.run("git", "commit", "-q", "-am", "One recipe")
    project.run("git", "remote", "add", "origin", f"https://ann:{canary('git_remote')}@git.invalid/x.git")
    remote = f"['remote \"store\"']\n    url = ssh://store.invalid/x\n    password = {canary('dvc_remote')}\n"
    (project.folder / ".dvc" / "config.local").write_text(remote)
    (folder / "home" / ".ray" / "auth_token").write_text(canary("ray_token"))
    project.environment.update(environment(), HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"))
    commands, said = set[str](), list[str]()
    with watched_command_lines(commands):
        said.append(project.run("dvc", "repro"))
        said.append(project.run("trainyard", "doctor", code=None))
    return project, commands, said


def test_no_secret_is_written_said_or_shown_as_an_argument(planted: tuple[Project, set[str], list[str]]) -> None:
    project, commands, said = planted
    secrets = [canary(place) for place in SECRETS]
    assert len(secrets) >= 20
    folder = project.folder
    sources = (folder / ".dvc" / "config.local", folder / ".git" / "config", folder.parent / "home" / ".ray" / "auth_token")
    assert len(found_in(folder.parent, secrets)) == len(sources), "the search must find what was planted"
    assert found_in(folder.parent, secrets, sources) == []
    assert (folder / "mlflow.db").stat().st_size > 0 and (folder / "dvc.lock").is_file()
    assert any("pipeline/train.py" in command for command in commands), "the command lines were not watched"
    assert not [(command, secret) for command in commands for secret in secrets if secret in command]
    assert "cnn · train · " in said[0] and "Who can reach what" in said[1]
    assert not [(text, secret) for text in said for secret in secrets if secret in text]


def test_a_secret_in_params_stops_every_stage_before_it_is_copied(planted: tuple[Project, set[str], list[str]]) -> None:
    project, _, _ = planted
    before = (project.folder / "dvc.lock").read_bytes()
    project.change("path: requirements.lock", f"path: requirements.lock, name: 'https://ann:{canary('params')}@host/x'")
    output = project.run("dvc", "repro", code=None)
    project.change(f", name: 'https://ann:{canary('params')}@host/x'", "")
    assert "recipes.cnn.data.name: holds a password or token" in output
    assert canary("params") not in output
    assert (project.folder / "dvc.lock").read_bytes() == before


def test_a_model_that_is_given_away_names_no_home_user_or_machine(planted: tuple[Project, set[str], list[str]]) -> None:
    project, _, _ = planted
    own = [str(project.folder.parent), str(Path.home()), project.environment["HOME"], shutil.which("git") or "/usr/bin/git"]
    if len(user := getpass.getuser()) > 4:  # a short one is a part of other words
        own.append(user)
    models = sorted(path for path in (project.folder / "models" / "cnn").rglob("*") if path.is_file())
    assert {"model.onnx", "model.safetensors", "recipe.json", "model.pt2", "card.html"} <= {path.name for path in models}
    assert not [(path.name, text) for path in models for text in own if text.encode() in unpacked(path)]


def unpacked(path: Path) -> bytes:
    """Return a file, and what is in it where it is an archive, as `.pt2` is."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return path.read_bytes() + b"".join(archive.read(name) for name in archive.namelist())
