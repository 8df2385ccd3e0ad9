"""What a RayJob runs on the head, with a real repository and a real remote of DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOKEN = "canary-3f1"
DVC_YAML = """stages:
  evaluate:
    foreach: {cnn: 1}
    do:
      cmd: sh -c 'echo "$RAY_ADDRESS" >> runs; cat data.txt data.txt > result.txt'
      deps: [data.txt]
      outs: [result.txt]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A bare repository of a project whose data are in a remote of DVC."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "dvc.yaml").write_text(DVC_YAML)
    (work / "data.txt").write_text("raw\n")
    (work / ".gitignore").write_text("/runs\n")
    for command in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote")],
        ["dvc", "add", "-q", "data.txt"],
        ["dvc", "push", "-q"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "project"],
        ["git", "clone", "-q", "--bare", ".", str(tmp_path / "project.git")],
    ):
        subprocess.run(command, cwd=work, check=True, env=environment(tmp_path))
    return tmp_path / "project.git"


def environment(tmp_path: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "1"}


def run_job(root: Path, tmp_path: Path, git: str, **changes: str) -> subprocess.CompletedProcess[str]:
    variables = {"git": git, "TARGET": "evaluate@cnn", "RESULTS": "results/cnn", "SHARED": str(tmp_path / "s"), **changes}
    script = str(root / "deploy" / "kuberay" / "run.sh")
    return subprocess.run(["bash", script], env={**environment(tmp_path), **variables}, capture_output=True, text=True)


def test_results_go_to_the_remote_and_to_a_branch_and_again_nothing_runs(root: Path, tmp_path: Path, project: Path) -> None:
    address = f"file://{TOKEN}@localhost{project}"
    done = run_job(root, tmp_path, address)
    assert done.returncode == 0, done.stderr
    user = tmp_path / "user"
    subprocess.run(["git", "clone", "-q", "-b", "results/cnn", str(project), str(user)], check=True)
    subprocess.run(["dvc", "pull", "-q"], cwd=user, check=True, env=environment(tmp_path))
    assert (user / "result.txt").read_text() == "raw\nraw\n"
    status = subprocess.run(["dvc", "status"], cwd=user, env=environment(tmp_path), capture_output=True, text=True)
    assert "up to date" in status.stdout

    assert run_job(root, tmp_path, address).returncode == 0
    kept = tmp_path / "s" / "projects" / "evaluate-cnn"
    assert (kept / "runs").read_text() == "auto\n", "the second job ran the stage again"
    found = subprocess.run(["grep", "-rl", TOKEN, str(kept)], capture_output=True, text=True).stdout
    assert found == "", "the repository's token stands in a file"


def test_two_jobs_for_one_target_do_not_share_a_folder(root: Path, tmp_path: Path, project: Path) -> None:
    place = tmp_path / "s" / "projects"
    place.mkdir(parents=True)
    hold = f"exec 9>{place}/evaluate-cnn.lock; flock 9; echo held; cat"
    with subprocess.Popen(["bash", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        done = run_job(root, tmp_path, str(project))
        other.communicate()
    assert done.returncode == 3
    assert "is in use by another job for evaluate@cnn" in done.stderr


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    assert "the stages to run" in run_job(root, tmp_path, "x", TARGET="").stderr
