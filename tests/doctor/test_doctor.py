from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from trainyard.doctor import examine, machine
from trainyard.doctor.finding import Finding, ok, problem, warning
from trainyard.doctor.page import as_json, render


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    away = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    command = [sys.executable, "-m", "trainyard.cli", "doctor", *arguments]
    full = {**away, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HOME": str(folder), **environment}
    return subprocess.run(command, cwd=folder, env=full, capture_output=True, text=True, timeout=240)


def test_the_command_changes_nothing_and_its_code_is_that_of_the_worst(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "dvc.lock").write_text("schema: '2.0'\nstag")
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    done = run(folder, "--json", A_TOKEN="s3cr3t-canary")
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"] == 5, done.stderr
    torn = next(line for line in report["chapters"]["Project"] if line["about"] == "dvc.lock")
    assert torn["status"] == "problem" and torn["fix"] == "trainyard repair"
    assert set(report["chapters"]) == {"Who can reach what", "Services", "Machine", "Project"}
    assert "s3cr3t-canary" not in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_the_page_shows_each_fix_below_what_it_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cr3t-canary")
    lines = [ok("memory", "enough s3cr3t-canary"), problem("disk", "full", "make room", 3), warning("b", "c", "d")]
    report = {"Machine": lines}
    output = StringIO()
    Console(file=output, width=80).print(render(report))
    shown = output.getvalue().splitlines()
    place = next(number for number, line in enumerate(shown) if "full" in line)
    assert "problem" in shown[place] and "-> make room" in shown[place + 1]
    assert shown[-1] == "1 problem, 1 warning; what to do stands behind each ->."
    assert "s3cr3t-canary" not in output.getvalue() + json.dumps(as_json(report))


def test_what_hangs_is_said_and_does_not_hold_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "LIMIT_SECONDS", 0.5)
    over = threading.Event()

    def hang() -> list[Finding]:
        over.wait(120)
        return []

    report = examine._side_by_side({"A": [hang]})
    assert not over.is_set()
    over.set()
    assert [line.status for line in report["A"]] == ["warning"] and "took longer" in report["A"][0].found


def test_an_examination_that_cannot_be_made_is_a_line_and_no_traceback() -> None:
    def fail() -> list[Finding]:
        raise PermissionError("not yours")

    assert "not yours" in examine._side_by_side({"A": [fail]})["A"][0].found


def test_the_code_is_that_of_the_gravest_problem() -> None:
    lines = [problem("a", "", "", 3), problem("b", "", "", 5), warning("c", "", ""), problem("d", "", "", 4)]
    assert examine.exit_code({"A": lines[:1], "B": lines[1:]}) == 5
    assert examine.exit_code({"A": [warning("c", "", "")]}) == 0


def test_libraries_are_held_against_the_lock(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("ray==0.0.1 \\\n    --hash=sha256:00\n")
    found = machine.examine_libraries(tmp_path)[0]
    assert found.code == 3 and "locked is 0.0.1" in found.found and found.fix == "make setup"
    (tmp_path / "requirements.lock").write_text("")
    assert machine.examine_libraries(tmp_path)[0].status == "ok"


def test_the_projects_own_libraries_are_as_locked(root: Path) -> None:
    assert machine.examine_libraries(root)[0].status == "ok"


def test_a_temporary_folder_with_a_long_name_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "x" * 40)
    found = machine.examine_disks({"project": tmp_path})[-1]
    assert found.code == 3 and found.fix == "export TMPDIR=/tmp"


def test_a_file_of_the_future_tells_of_a_wrong_clock(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    path.touch()
    assert machine.examine_clock([path])[0].status == "ok"
    os.utime(path, (time.time() + 3600,) * 2)
    assert machine.examine_clock([path])[0].status == "warning"


def test_an_interface_that_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "none0")
    found = machine.examine_names("127.0.0.1")[-1]
    assert found.code == 3 and "none0" in found.found
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    assert "127.0.0.1" in machine.examine_names("127.0.0.1")[-1].found
