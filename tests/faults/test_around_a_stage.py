"""What DVC and our stages do around the work: killed, run twice at once, edited meanwhile, cut off in their files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.small import EXPECTED, SmallProject, is_gone, make_small_project, wait_until

pytestmark = pytest.mark.faults
LONG = pytest.mark.long


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    """A project in which all has run; to be copied, not changed."""
    project = make_small_project(root, tmp_path_factory.mktemp("finished") / "project")
    project.run("dvc", "repro")
    assert project.outputs() == EXPECTED
    project.run("trainyard", "repair")
    return project


@pytest.fixture
def done(root: Path, finished: SmallProject, tmp_path: Path) -> SmallProject:
    """A copy of the finished project, in a folder of its own."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    project = SmallProject(tmp_path / "project")
    project.environment.update(finished.environment, DVC_SITE_CACHE_DIR=str(tmp_path / "notes"))
    return project


@pytest.fixture
def fresh(root: Path, tmp_path: Path) -> Iterator[SmallProject]:
    """A project in which nothing has run; its processes are ended afterwards."""
    project = make_small_project(root, tmp_path / "project")
    yield project
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.folder):
                process.kill()
        except (psutil.Error, OSError):
            continue


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


@pytest.mark.parametrize("percent", [50, *(pytest.param(case, marks=LONG) for case in (0, 10, 90))])
def test_a_cut_off_lock_is_put_back_and_nothing_is_made_again(done: SmallProject, percent: int) -> None:
    path = done.folder / "dvc.lock"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * percent // 100])
    assert "dvc.lock: was damaged (" in done.run("trainyard", "repair")
    assert path.read_bytes() == whole
    output = done.run("dvc", "repro")
    assert done.stages_run(output) == [] and "is cached" not in output
    assert done.outputs() == EXPECTED


@LONG
def test_a_cut_off_lock_without_a_copy_comes_back_from_git(done: SmallProject) -> None:
    done.run("git", "add", "-A")
    done.run("git", "commit", "-q", "-m", "results")
    shutil.rmtree(done.folder / ".trainyard")
    path = done.folder / "dvc.lock"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    if "validation failed" not in done.run("dvc", "status", code=None):
        path.write_bytes(b"")
    assert "put back from git" in done.run("trainyard", "repair")
    assert path.read_bytes() == whole


def test_plain_dvc_names_a_cut_off_lock(done: SmallProject) -> None:
    (done.folder / "dvc.lock").write_text("")
    # In docs/trouble.md with the command that helps.
    assert "'./dvc.lock' validation failed" in done.run("dvc", "repro", code=255)


@pytest.mark.parametrize(
    "content", ["", *(pytest.param(case, marks=LONG) for case in ('{"write": {"/x', "[]", '{"write": {"/x": 1}}'))]
)
def test_a_damaged_list_of_locks_is_emptied(done: SmallProject, content: str) -> None:
    path = done.folder / ".dvc" / "tmp" / "rwlock"
    path.write_text(content)
    if content == "":
        output = done.run("dvc", "repro", code=255)
        assert "Unable to read RWLock-file" in output and "JSON structure is corrupted" in output
    assert "rwlock: was damaged" in done.run("trainyard", "repair")
    assert json.loads(path.read_text()) == {}
    assert done.stages_run(done.run("dvc", "repro")) == []


@pytest.mark.parametrize("left", ["unreaped", *(pytest.param(case, marks=LONG) for case in ("dead", "reused"))])
def test_a_lock_of_a_process_that_is_gone_is_taken_away(done: SmallProject, left: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        if left != "reused":
            process.kill()
            if left == "dead":
                process.wait()
            else:
                wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, "a zombie")
        info = {"pid": process.pid, "cmd": "/bin/dvc repro"}
        path = done.folder / ".dvc" / "tmp" / "rwlock"
        path.write_text(json.dumps({"write": {str(done.folder / "a.first"): info}, "read": {}}))
        if left != "dead":  # which DVC sees by itself
            output = done.run("dvc", "repro", code=255)
            assert "is busy" in output and f"(PID {process.pid})" in output
        assert f"rwlock: pid {process.pid} (/bin/dvc repro) is gone" in done.run("trainyard", "repair")
        assert done.stages_run(done.run("dvc", "repro")) == []
    finally:
        process.kill()
        process.communicate()


@LONG
def test_a_lock_of_a_process_at_work_stays(fresh: SmallProject) -> None:
    held = fresh.hold("first@a")
    started = fresh.start("dvc", "repro", "first@a")
    fresh.begun("first@a")
    path = fresh.folder / ".dvc" / "tmp" / "rwlock"
    before = path.read_text()
    assert str(started.pid) in before
    assert "nothing to repair" in fresh.run("trainyard", "repair")
    assert path.read_text() == before
    path.write_text(before[:20])
    assert f"pid {started.pid}, since" in fresh.run("trainyard", "repair", code=3)
    path.write_text(before)
    held.unlink()
    assert started.wait() == 0


@LONG
def test_a_left_lock_that_outlives_its_process_is_deleted(done: SmallProject) -> None:
    done.run("dvc", "config", "core.hardlink_lock", "true")
    lock = done.folder / ".dvc" / "tmp" / "lock"
    lock.unlink()
    claim = lock.with_name("0123456789abcdef0123456789abcdef.lock")
    claim.write_text(str(claim))
    os.link(claim, lock)
    assert "Unable to acquire lock" in done.run("dvc", "repro", code=255)
    assert "lock: was left by a dvc that is gone; deleted" in done.run("trainyard", "repair")
    assert not claim.exists()
    assert done.stages_run(done.run("dvc", "repro")) == []


@LONG
def test_a_plain_lock_file_without_a_process_disturbs_nobody(done: SmallProject) -> None:
    (done.folder / ".dvc" / "tmp" / "lock").write_text(" 4194303\n")
    assert "nothing to repair" in done.run("trainyard", "repair")
    assert done.stages_run(done.run("dvc", "repro")) == []


@pytest.mark.parametrize("name", ["hashes/local", *(pytest.param(case, marks=LONG) for case in ("links",))])
def test_a_damaged_database_of_hashes_is_deleted(done: SmallProject, name: str) -> None:
    done.run("dvc", "status")
    (found,) = Path(done.environment["DVC_SITE_CACHE_DIR"]).glob(f"repo/*/{name}/cache.db")
    with sqlite3.connect(found) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    content = found.read_bytes()
    for path in found.parent.glob("cache.db*"):
        path.unlink()
    found.write_bytes(content[:5000])
    output = done.run("dvc", "repro", code=255)
    assert "database disk image is malformed" in output
    assert f"{found}: was damaged" in done.run("trainyard", "repair")
    assert done.stages_run(done.run("dvc", "repro")) == []


@pytest.mark.parametrize("damage", ["bit", *(pytest.param(case, marks=LONG) for case in ("gone", "short"))])
def test_every_damaged_file_of_the_cache_is_found_and_put_right(done: SmallProject, damage: str) -> None:
    lock = (done.folder / "dvc.lock").read_bytes()
    places = sorted(path for path in (done.folder / ".dvc" / "cache" / "files").rglob("*") if path.is_file())
    assert len(places) == 4
    for place in places:
        content = place.read_bytes()
        place.unlink()
        if damage != "gone":
            place.write_bytes(content[:-1] if damage == "short" else bytes([content[0] ^ 1]) + content[1:])
            place.chmod(0o444)
        output = done.run("trainyard", "verify", "--cache", code=5)
        assert str(place.relative_to(done.folder)) in output and "1 of 4 files" in output
        assert "put back from the project's folder" in done.run("trainyard", "repair", "--cache")
        assert place.read_bytes() == content
    assert "cache: OK, 4 files" in done.run("trainyard", "verify", "--cache")
    assert (done.folder / "dvc.lock").read_bytes() == lock


def test_what_rotted_in_the_cache_and_was_checked_out_is_made_again(done: SmallProject) -> None:
    files = (path for path in (done.folder / ".dvc" / "cache").rglob("*") if path.is_file())
    place = next(path for path in files if path.read_text() == EXPECTED["a.first"])
    place.chmod(0o644)
    place.write_text(EXPECTED["a.first"].replace("1", "3"))
    place.chmod(0o444)
    (done.folder / "a.first").unlink()
    done.run("dvc", "checkout")
    # DVC does not see it.
    assert (done.folder / "a.first").read_text() != EXPECTED["a.first"]
    done.run("trainyard", "repair", "--cache")
    done.run("dvc", "repro")
    assert done.outputs() == EXPECTED
    assert "cache: OK" in done.run("trainyard", "verify", "--cache")


def test_repair_touches_nothing_that_is_whole(done: SmallProject) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes())
            for path in done.folder.rglob("*")
            if path.is_file() and ".git" not in path.parts
        }

    before = state()
    assert done.run("trainyard", "repair") == "repair: nothing to repair\n"
    assert state() == before


def test_repair_outside_a_project_says_so(tmp_path: Path, done: SmallProject) -> None:
    outside = SmallProject(tmp_path)
    outside.environment = done.environment
    assert "is no DVC project" in outside.run("trainyard", "repair", code=2)


@LONG
def test_a_project_without_git_works_and_is_repaired(root: Path, tmp_path: Path) -> None:
    project = make_small_project(root, tmp_path / "project", git=False)
    project.run("dvc", "repro", "first@a")
    (project.folder / "dvc.lock").write_text("")
    shutil.rmtree(project.folder / ".trainyard", ignore_errors=True)
    assert "delete it" in project.run("trainyard", "repair", code=5)
    (project.folder / "dvc.lock").unlink()
    assert "is cached" in project.run("dvc", "repro", "first@a")
    assert (project.folder / "a.first").read_text() == EXPECTED["a.first"]


@LONG
def test_a_moved_project_makes_nothing_again(done: SmallProject, tmp_path: Path) -> None:
    done.folder.rename(tmp_path / "moved here")
    moved = SmallProject(tmp_path / "moved here")
    moved.environment = done.environment
    assert moved.stages_run(moved.run("dvc", "repro")) == []
    assert moved.run("trainyard", "repair") == "repair: nothing to repair\n"


@LONG
def test_another_umask_makes_nothing_again_and_hides_nothing(done: SmallProject) -> None:
    (done.folder / "b.second").unlink()
    changed = ["sh", "-c", "umask 077 && dvc repro -f -s second@b"]
    done.run(*changed)
    assert done.stages_run(done.run("dvc", "repro")) == []
    assert done.outputs() == EXPECTED
