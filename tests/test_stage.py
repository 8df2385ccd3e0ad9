"""A stage's process, and how it ends or begins again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import os, sys
from pathlib import Path
from trainyard.errors import BeginAgain
from trainyard.stage import run_stage

def work(clock):
    print("at work", os.getpid(), os.environ.get("LEFT_BEHIND"), sys.argv[1:], flush=True)
    os.environ["LEFT_BEHIND"] = "yes"
    seen = Path("seen")
    seen.write_text(seen.read_text() + "." if seen.exists() else ".")
    if len(seen.read_text()) <= int(sys.argv[1]):
        raise BeginAgain("the engine stopped", most=2)
    return "done"

run_stage("cnn", "train", work)
"""


def run(root: Path, folder: Path, stops: int) -> subprocess.CompletedProcess[str]:
    """Run a stage whose engine stops so many times."""
    (folder / "work.py").write_text(WORK)
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    environment.pop("DVC_STAGE", None)
    return subprocess.run(
        [sys.executable, "work.py", str(stops)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("stops", [1, 2])
def test_a_stage_that_begins_again_is_a_fresh_process_with_the_same_number(root: Path, tmp_path: Path, stops: int) -> None:
    done = run(root, tmp_path, stops)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    begun = [line for line in lines if line.startswith("at work")]
    # Nothing that the one before had set is left, and its lock was given back.
    assert begun == [f"{begun[0].rsplit(' None', 1)[0]} None ['{stops}']"] * (stops + 1)
    assert [line for line in lines if "begins again by itself" in line] == [
        "cnn · train · the engine stopped; begins again by itself, and continues from the newest checkpoint"
    ] * stops
    assert "cnn · train · done" in lines[-1]


def test_a_stage_that_stops_again_and_again_ends_and_can_be_continued(root: Path, tmp_path: Path) -> None:
    done = run(root, tmp_path, 9)
    assert done.returncode == 75
    assert done.stdout.count("at work") == 3
    expected = "cnn · train · ERROR: the engine stopped; run the same command again to continue from the newest checkpoint"
    assert done.stderr.strip() == expected
    # The same command counts anew.
    assert run(root, tmp_path, 4).returncode == 0


ENDING = """
import atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from trainyard.stage import leave

def slowly(text):
    time.sleep(0.5)
    print(text)

class Kept:
    def __del__(self):
        print("taken apart")

kept = Kept()
atexit.register(print, "at the end")
threading.Thread(target=slowly, args=["thread"]).start()
ThreadPoolExecutor(1).submit(slowly, "pool")
sys.stderr.write("told")
leave()
"""


def test_a_stage_ends_with_all_that_waits_for_its_end_and_takes_nothing_apart(tmp_path: Path) -> None:
    # To a file, which is not written line by line.
    with (tmp_path / "output").open("w") as output:
        done = subprocess.run([sys.executable, "-c", ENDING], stdout=output, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "told")
    lines = (tmp_path / "output").read_text().splitlines()
    assert sorted(lines[:2]) == ["pool", "thread"]
    assert lines[2:] == ["at the end"]
