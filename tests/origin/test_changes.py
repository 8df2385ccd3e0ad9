from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trainyard.origin import changes as module
from trainyard.origin.changes import changes
from trainyard.provenance import git_tags


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a git repository."""
    for name in ("TRAINYARD_GIT_COMMIT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "project"
    (folder / "reports").mkdir(parents=True)
    (folder / "code.py").write_text("rate = 1\n")
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    (folder / "reports" / "train.json").write_text("{}\n")
    (folder / ".gitignore").write_text("data/\n")
    run(folder, "init", "-q", "-b", "main")
    run(folder, "config", "user.email", "test@trainyard.invalid")
    run(folder, "config", "user.name", "test")
    run(folder, "add", ".")
    run(folder, "commit", "-q", "-m", "start")
    return folder


def run(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def all_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_patch_brings_the_files_back_as_they_were(repository: Path, tmp_path: Path) -> None:
    (repository / "code.py").write_text("rate = 2\n")
    (repository / "new.py").write_text("# new\nx = 1\n")
    (repository / "data").mkdir()
    (repository / "data" / "large.bin").write_bytes(b"\0" * 1000)
    before = all_files(repository)
    found = changes(repository, "HEAD")
    # Neither the files nor git's own were touched.
    assert all_files(repository) == before
    assert found.whole
    clone = tmp_path / "clone"
    run(tmp_path, "clone", "-q", str(repository), str(clone))
    (tmp_path / "patch").write_bytes(found.as_file())
    run(clone, "apply", str(tmp_path / "patch"))
    assert (clone / "code.py").read_text() == "rate = 2\n"
    assert (clone / "new.py").read_text() == "# new\nx = 1\n"
    assert not (clone / "data").exists()


def test_what_stages_write_is_no_change(repository: Path) -> None:
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (repository / "reports" / "train.json").write_text('{"loss": 1}\n')
    (repository / "reports" / "new.json").write_text("{}\n")
    assert changes(repository, "HEAD").text == ""
    assert git_tags(repository)["git.dirty"] == "false"
    (repository / "code.py").write_text("rate = 3\n")
    assert git_tags(repository)["git.dirty"] == "true"


def test_secrets_are_taken_out_and_that_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_TOKEN", "canary-in-the-environment")
    secret = "hunter" + "22-is-secret"
    (repository / "code.py").write_text(f'password = "{secret}"\nx = "canary-in-the-environment"\n')
    found = changes(repository, "HEAD")
    assert found.masked and not found.whole
    content = found.as_file().decode()
    assert secret not in content and "canary" not in content
    assert content.startswith("# Secrets were taken out of it")
    assert "rate = 1" in content


def test_a_patch_has_bounds_and_names_what_it_leaves_out(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATCH_BYTES", 5000)
    (repository / "a.py").write_text("x = 1\n")
    (repository / "b.py").write_text("y = 1\n" * 2000)
    (repository / "c.bin").write_bytes(bytes(range(256)) * 4)
    (repository / "d.csv").write_text("1\n" * module.FILE_BYTES)
    found = changes(repository, "HEAD")
    assert len(found.text) < 5000 and "+x = 1" in found.text
    assert set(found.left_out) == {"b.py", "c.bin", "d.csv"}
    assert "# Left out, as too large or no text: d.csv" in found.as_file().decode()


def test_outside_a_repository_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.delenv("TRAINYARD_GIT_COMMIT", raising=False)
    folder = tmp_path / "plain"
    folder.mkdir()
    assert git_tags(folder) == {}
    assert changes(folder, "HEAD").text == ""
