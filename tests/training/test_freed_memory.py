"""What a process frees, it keeps: looked at in processes of their own, as it cannot be taken back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = """\
import resource, sys, threading
import numpy as np
from trainyard.training.memory import keep_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def steps():
    counted = []
    for step in range(20):
        before = faults()
        features = [np.ones(3_000_000, dtype=np.uint8) for layer in range(40)]
        del features
        counted.append(faults() - before)
    print(sorted(counted)[10])

if sys.argv[1] == "kept":
    keep_freed()
thread = threading.Thread(target=steps)
thread.start()
thread.join()
"""


def faults_a_step(root: Path, how: str) -> int:
    """Return the pages that the kernel hands out in a step which takes and frees 120 MB, in the median."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", STEPS, how]
    done = subprocess.run(
        command, env={**environment, "PYTHONPATH": str(root / "src")}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_step_asks_the_kernel_for_no_page_that_the_last_one_had(root: Path) -> None:
    assert faults_a_step(root, "as it is") > 5000
    assert faults_a_step(root, "kept") < 100
