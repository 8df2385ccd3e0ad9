from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.doctor.listeners import Program
from trainyard.doctor.project import (
    examine_git,
    examine_leftovers,
    examine_lock_file,
    examine_locks,
    examine_settings,
)

WHOLE = "schema: '2.0'\nstages:\n  train@cnn:\n    cmd: python pipeline/train.py cnn\n    outs: []\n"


NOBODY = 2**22 + 1
"""No process can have this number on Linux."""


@pytest.mark.parametrize("cut", range(1, len(WHOLE) - 8, 9))
def test_a_torn_lock_file_is_a_problem_wherever_it_was_cut(tmp_path: Path, cut: int) -> None:
    (tmp_path / "dvc.lock").write_text(WHOLE[:cut])
    found = examine_lock_file(tmp_path)[0]
    torn = "cmd:" not in WHOLE[:cut]
    assert (found.status, found.code) == (("problem", 5) if torn else ("ok", 0))
    assert not torn or found.fix == "trainyard repair"


def test_a_whole_lock_file_and_none_are_ok_in_a_project(tmp_path: Path) -> None:
    assert examine_lock_file(tmp_path)[0].fix == "change to the project's folder"
    (tmp_path / "dvc.yaml").touch()
    assert examine_lock_file(tmp_path)[0].status == "ok"
    (tmp_path / "dvc.lock").write_text(WHOLE)
    assert examine_lock_file(tmp_path)[0].found == "whole, 1 stages"


def test_a_lock_of_dvc_whose_process_has_ended_is_shown(tmp_path: Path) -> None:
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"write": {"/p/models": {"pid": NOBODY, "cmd": "dvc repro"}}, "read": {"/p/data": []}}))
    found = examine_locks(tmp_path)[0]
    assert found.status == "warning" and str(NOBODY) in found.found and found.fix == "trainyard repair"
    path.write_text(json.dumps({"write": {}, "read": {"/p/data": [{"pid": os.getpid(), "cmd": "dvc repro"}]}}))
    assert examine_locks(tmp_path)[0].status == "ok"
    path.write_text('{"write": {"/p')
    assert examine_locks(tmp_path)[0].found.endswith("is torn")


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_stages_at_work_are_named_and_their_locks_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / ".trainyard" / "locks"
    folder.mkdir(parents=True)
    (folder / "idle.lock").touch()
    with (folder / "busy.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert examine_locks(tmp_path)[-1].found == "busy"
    assert examine_locks(tmp_path)[-1].found == "none"


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_folders_and_processes_of_killed_trainings_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert examine_leftovers([])[0].status == "ok"
    (tmp_path / "ty-killed").mkdir()
    (tmp_path / "ty-killed" / "lock").touch()
    command = [sys.executable, "-c", "input()", f"--temp={tmp_path}/ty-killed/session"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        left = Program(pid=process.pid, owner="Ray", part="raylet", ports=(), mode=None)
        other = Program(pid=os.getpid(), owner="Ray", part="raylet", ports=(), mode=None)
        processes, folders = examine_leftovers([left, other])
    finally:
        process.communicate(b"")
    assert processes.fix == f"kill {process.pid}" and processes.status == "warning"
    assert "ty-killed" in folders.found


def test_a_password_in_the_committed_settings_of_dvc_is_a_problem_and_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / ".dvc"
    folder.mkdir()
    (folder / "config").write_text("['remote \"store\"']\n    url = s3://b\n    secret_access_key = hunter22\n")
    found = examine_settings(tmp_path)[0]
    assert (found.status, found.code) == ("problem", 5)
    assert "secret_access_key of remote store" in found.found and "hunter22" not in found.found + found.fix
    (folder / "config").write_text("['remote \"web\"']\n    url = https://ann:hunter22@host/x\n")
    assert examine_settings(tmp_path)[0].status == "problem"
    (folder / "config").write_text("['remote \"store\"']\n    url = s3://b\n")
    assert examine_settings(tmp_path)[0].status == "ok"
    (folder / "config.local").write_text("")
    (folder / "config.local").chmod(0o644)
    assert examine_settings(tmp_path)[0].fix == f"chmod 600 {folder}/config.local"


def test_a_folder_without_git_is_a_warning(tmp_path: Path) -> None:
    assert examine_git(tmp_path)[0].status == "warning"


def test_a_project_of_dvc_in_no_repository_is_a_problem_unless_dvc_is_told_to_do_without(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    found = examine_git(tmp_path)[0]
    assert (found.status, found.code) == ("problem", 3) and found.fix.endswith("or: dvc config core.no_scm true")
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    assert examine_git(tmp_path)[0].status == "warning"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_repository_of_another_user_names_what_has_git_answer_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    project = tmp_path / "an other's"
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    os.chown(project, 12345, 12345)
    os.chown(project / ".git", 12345, 12345)
    found = examine_git(project)[0]
    assert found.status == "warning" and "belongs to another user" in found.found
    subprocess.run(found.fix, shell=True, check=True)
    assert examine_git(project)[0].fix == "git init; git add -A; git commit"


def test_settings_of_dvc_that_git_could_not_merge_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("<<<<<<< HEAD\n[core]\n=======\n>>>>>>> side\n")
    found = examine_settings(tmp_path)[0]
    assert (found.status, found.code) == ("problem", 3) and "DVC's settings cannot be read" in found.found
