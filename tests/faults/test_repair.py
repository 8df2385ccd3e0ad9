"""What a killed DVC or a broken disk leaves, and the one command that puts it right."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.faults.small import EXPECTED, SmallProject, make_small_project, wait_until
from trainyard.dvc_lock import entries_of

pytestmark = pytest.mark.faults
LONG = pytest.mark.long
SAY = """
import json, os, sys, tempfile
from pathlib import Path
from dvc.cli import main

said = []
for damaged in json.loads(Path("damaged.json").read_text()):
    Path("dvc.lock").write_bytes(bytes.fromhex(damaged))
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        code = main(["repro", "--dry"])
        sys.stdout.flush(), sys.stderr.flush()
        os.dup2(kept[0], 1), os.dup2(kept[1], 2)
        file.seek(0)
        said.append((code, file.read().decode()))
print(json.dumps(said))
"""
"""What `dvc repro` says of each of some dvc.lock, in one process: its import takes longer than all of them."""


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


def test_whatever_plain_dvc_says_of_a_cut_off_lock_is_in_the_guide_with_the_command(done: SmallProject, root: Path) -> None:
    guide = (root / "docs" / "trouble.md").read_text().partition("## Plain `dvc repro` refuses `dvc.lock`\n")[2]
    shown = re.findall(r"```text\n(.*?)```", guide, re.DOTALL)[0].splitlines()
    command = re.findall(r"The one command:\n.*?```bash\n(.*?)```", guide, re.DOTALL)[0].strip()
    patterns = [re.compile(f"^{re.escape(line).replace('train@cnn', '.+')}", re.MULTILINE) for line in shown]
    # With nothing after the colon; where there is more, it is another trouble.
    patterns[-1] = re.compile(f"{patterns[-1].pattern}\\s*$", re.MULTILINE)
    whole = (done.folder / "dvc.lock").read_bytes()
    damaged = [whole[:cut] for cut in range(0, len(whole), 29)]
    in_a_name = whole[: whole.rindex(b"hash: md5") + len("hash: md")]
    damaged.append(in_a_name)
    # As a power cut leaves it: blocks that were never written, or another file's.
    damaged += [whole[:300] + bytes(100), b"\xff\xfe" + whole]
    (done.folder / "damaged.json").write_text(json.dumps([text.hex() for text in damaged]))
    said = json.loads(done.run(sys.executable, "-W", "ignore", "-c", SAY))
    refused = [text for code, text in said if code]
    assert [text for text in refused if not any(pattern.search(text) for pattern in patterns)] == []
    assert [pattern.pattern for pattern in patterns if not any(pattern.search(text) for text in refused)] == []
    # Also without a whole one to compare it with, `trainyard repair` takes for damaged what DVC refuses.
    assert [text for text, (code, _) in zip(damaged, said, strict=True) if code and entries_of(text) is not None] == []

    (done.folder / "dvc.lock").write_bytes(in_a_name)
    output = done.run("bash", "-c", command)
    assert "dvc.lock: was damaged (" in output and done.stages_run(output) == []
    assert (done.folder / "dvc.lock").read_bytes() == whole


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
