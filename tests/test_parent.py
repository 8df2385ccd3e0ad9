"""A stage that a command of ours started ends with that command, also where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

STAGE = "import time; from trainyard.parent import end_with_parent; end_with_parent(); print('up', flush=True); time.sleep(600)"
COMMAND = f"""
import os, subprocess, sys
from trainyard.parent import PARENT, this_process
subprocess.run([sys.executable, "-c", {STAGE!r}], env={{**os.environ, PARENT: this_process()}})
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}


def test_a_stage_ends_when_the_command_that_started_it_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", COMMAND], env=environment(), stdout=subprocess.PIPE) as command:
        assert command.stdout is not None and command.stdout.readline() == b"up\n"
        os.kill(command.pid, signal.SIGKILL)
        # The stage alone holds the other end now.
        assert command.stdout.read() == b""


def test_a_stage_whose_command_is_gone_does_not_begin() -> None:
    # Process 1 began at another time than that.
    done = subprocess.run(
        [sys.executable, "-c", STAGE], env={**environment(), "TRAINYARD_PARENT": "1:0"}, capture_output=True, text=True
    )
    assert "the command that started this is gone; run the same command again" in done.stderr
