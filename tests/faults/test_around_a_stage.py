"""What DVC and our stages do around the work: killed, run twice at once, edited meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.small import EXPECTED, SmallProject, is_gone, make_small_project, wait_until

pytestmark = pytest.mark.faults
LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("stage", "victim"),
    [
        ("first@a", "dvc"),
        ("second@a", "stage"),
        *(pytest.param(*case, marks=LONG) for case in (("first@a", "group"), ("first@a", "stage"), ("second@a", "dvc"))),
        pytest.param("second@a", "group", marks=LONG),
        pytest.param("first@a", "dvc, and the next at once", marks=LONG),
    ],
)
def test_a_killed_repro_leaves_nobody_and_the_next_ends_as_if_nothing_had_been(
    fresh: SmallProject, stage: str, victim: str
) -> None:
    held = fresh.hold(stage)
    started = fresh.start("dvc", "repro")
    pid = fresh.begun(stage)
    if victim in ("dvc", "dvc, and the next at once"):
        os.kill(started.pid, signal.SIGKILL)
    elif victim == "group":
        os.killpg(started.pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
    if victim == "dvc":
        # Held for ever, the stage ends by itself.
        wait_until(lambda: is_gone(pid), "the end of the stage whose dvc is gone")
    # Else at once: the next one must not meet the last one's stage, though that may still be on its way out.
    held.unlink()
    started.wait()
    fresh.run("dvc", "repro")
    assert fresh.outputs() == EXPECTED
    wait_until(lambda: is_gone(pid), "the end of the first stage")


def test_a_stage_whose_dvc_was_killed_before_it_could_look_ends_at_once(fresh: SmallProject) -> None:
    # As a stage finds itself then: told by DVC's variable whose it is, and nobody above it is a dvc.
    ended = subprocess.run(
        [sys.executable, "work.py", "first", "a", "raw.txt", "a.first"],
        cwd=fresh.folder,
        env={**fresh.environment, "DVC_STAGE": "first@a", "DVC_ROOT": str(fresh.folder)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    (fresh.folder / ".dvc" / "tmp").mkdir(exist_ok=True)
    assert "Traceback" not in ended.stderr
    (fresh.folder / ".dvc" / "tmp" / "rwlock").write_text("{}")
    ended = subprocess.run(
        [sys.executable, "work.py", "first", "a", "raw.txt", "a.first"],
        cwd=fresh.folder,
        env={**fresh.environment, "DVC_STAGE": "first@a", "DVC_ROOT": str(fresh.folder)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 75
    assert "the `dvc` that started this is gone; run the same command again" in ended.stderr


def test_a_stage_that_fails_half_way_is_made_again_and_nothing_is_made_of_its_half(fresh: SmallProject) -> None:
    (fresh.folder / "fail-first-a").touch()
    output = fresh.run("dvc", "repro", "second@a", code=255)
    assert "a.first: the disk is full: make room there" in output
    assert (fresh.folder / "a.first").read_text() == "half"
    assert not (fresh.folder / "a.second").exists()
    (fresh.folder / "fail-first-a").unlink()
    fresh.run("dvc", "repro")
    assert fresh.outputs() == EXPECTED


def test_a_second_repro_of_the_same_stage_says_who_is_at_work_and_spoils_nothing(fresh: SmallProject) -> None:
    held = fresh.hold("first@a")
    started = fresh.start("dvc", "repro", "first@a")
    fresh.begun("first@a")
    output = fresh.run("dvc", "repro", "first@a", code=255)
    assert "is busy" in output and f"(PID {started.pid})" in output
    said = fresh.run("trainyard", "repair")
    assert f"at work here: pid {started.pid}, since 2" in said and "dvc repro first@a" in said
    held.unlink()
    assert started.wait() == 0
    assert (fresh.folder / "a.first").read_text() == EXPECTED["a.first"]


@LONG
def test_make_run_waits_for_another_repro(fresh: SmallProject) -> None:
    held = fresh.hold("first@a")
    started = fresh.start("dvc", "repro", "first@a")
    fresh.begun("first@a")
    log = (fresh.folder / "wait.log").open("wb")
    waiting = subprocess.Popen(
        fresh.command("trainyard", "repair", "--wait"), cwd=fresh.folder, env=fresh.environment, stdout=log
    )
    try:
        wait_until(lambda: f"waits for pid {started.pid}" in (fresh.folder / "wait.log").read_text(), "who is waited for")
        assert waiting.poll() is None
        held.unlink()
        assert started.wait() == 0
        assert waiting.wait(timeout=200) == 0
    finally:
        waiting.kill()
        waiting.wait()


@LONG
def test_two_repros_of_different_stages_both_end_well(fresh: SmallProject) -> None:
    held = fresh.hold("first@a")
    started = fresh.start("dvc", "repro", "first@a")
    fresh.begun("first@a")
    fresh.run("dvc", "repro", "second@b")
    held.unlink()
    assert started.wait() == 0
    assert fresh.stages_run(fresh.run("dvc", "repro")) == ["second@a"]
    assert fresh.outputs() == EXPECTED


def test_a_stage_that_another_process_works_on_waits_and_says_for_whom(fresh: SmallProject) -> None:
    held = fresh.hold("first@a")
    started = fresh.start("python", "work.py", "first", "a", "raw.txt", "a.first")
    fresh.begun("first@a")
    log = (fresh.folder / "second.log").open("wb")
    second = subprocess.Popen(fresh.command("dvc", "repro", "first@a"), cwd=fresh.folder, env=fresh.environment, stdout=log)
    wanted = f"a · first · waits for pid {started.pid} (work.py first a raw.txt a.first, since 2"
    wait_until(lambda: wanted in (fresh.folder / "second.log").read_text(), wanted)
    held.unlink()
    assert started.wait() == 0
    assert second.wait(timeout=200) == 0
    assert (fresh.folder / "a.first").read_text() == EXPECTED["a.first"]


@LONG
def test_two_clones_with_one_cache_both_end_with_the_same(root: Path, tmp_path: Path) -> None:
    clones = [make_small_project(root, tmp_path / name) for name in ("one", "two")]
    for clone in clones:
        clone.run("dvc", "cache", "dir", str(tmp_path / "cache"))
    held = [clone.hold("first@a") for clone in clones]
    started = [clone.start("dvc", "repro") for clone in clones]
    for clone in clones:
        clone.begun("first@a")
    for path in held:
        path.unlink()
    assert [process.wait() for process in started] == [0, 0]
    for clone in clones:
        assert clone.outputs() == EXPECTED
        assert "cache: OK, " in clone.run("trainyard", "verify", "--cache")


@pytest.mark.parametrize("edited", ["params.yaml", *(pytest.param(case, marks=LONG) for case in ("raw.txt", "work.py"))])
def test_what_is_edited_while_a_stage_runs_is_not_recorded_as_what_it_was_made_from(fresh: SmallProject, edited: str) -> None:
    held = fresh.hold("first@a")
    started = fresh.start("dvc", "repro", "first@a")
    fresh.begun("first@a")
    path = fresh.folder / edited
    before = path.read_text()
    path.write_text(before.replace("a: {first: 1", "a: {first: 7") if edited == "params.yaml" else f"{before}\n")
    held.unlink()
    started.wait()
    said = (fresh.folder / "start.log").read_text()
    name = "params.yaml: recipes.a.first" if edited == "params.yaml" else edited
    assert f"{name}: edited while this ran" in said
    assert "exited with 75" in said
    assert "first@a" not in ((fresh.folder / "dvc.lock").read_text() if (fresh.folder / "dvc.lock").exists() else "")
    fresh.run("dvc", "repro", "first@a")
    value = 7 if edited == "params.yaml" else 1
    raw = (fresh.folder / "raw.txt").read_text()
    assert (fresh.folder / "a.first").read_text() == f"{raw}first {value}\n"


@LONG
def test_what_does_not_belong_to_a_stage_may_be_edited_while_it_runs(fresh: SmallProject) -> None:
    held = fresh.hold("first@a")
    started = fresh.start("dvc", "repro", "first@a")
    fresh.begun("first@a")
    fresh.change("b: {first: 2, second: 2}", "b: {first: 3, second: 2}\n  c: {first: 1, second: 1}")
    held.unlink()
    assert started.wait() == 0
