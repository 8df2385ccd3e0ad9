"""The code of the pages, asked in node without a page."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ASK = Path(__file__).parents[2] / "benchmarks" / "web_ask.mjs"
OLDEST = 18
"""The first node that can decompress as browsers do."""


def node() -> str:
    """Return the program, or skip the test."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("no node here, which runs the pages' code; Debian: apt-get install nodejs")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST:
        pytest.skip(f"node {version} cannot decompress as browsers do; {OLDEST} can")
    return program


def ask(folder: Path, questions: list[dict[str, Any]], scratch: Path) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    """Return the answers of the code in a folder, and the logits of all in a row."""
    (folder / "package.json").write_text('{"type": "module"}')
    (scratch / "questions.json").write_text(json.dumps(questions))
    command = [node(), str(ASK), str(folder), str(scratch / "questions.json"), str(scratch / "logits.bin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), np.fromfile(scratch / "logits.bin", dtype=np.float32)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def decoded(text: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype).reshape(shape)
