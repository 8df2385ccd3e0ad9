"""The code of the Android app, asked on a JVM: what uses nothing of Android's."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.files_of_this_run import folder_of_this_run

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "android" / "app" / "src" / "main" / "kotlin" / "org" / "trainyard" / "phone" / "input"
ASK = ROOT / "benchmarks" / "phone_ask.kt"
OLDEST = 2
"""The first Kotlin that the app's Gradle plugin is of."""
LANGUAGE = "2.2"
"""Of the Kotlin that the app is built with."""
HOW = "https://kotlinlang.org/docs/command-line.html, or: npm pack kotlin-compiler, and put its bin/ on the PATH"


def compiler() -> str:
    """Return the program, or skip the test."""
    program = shutil.which("kotlinc")
    if program is None:
        pytest.skip(f"no kotlinc here, which compiles the app's code; {HOW}")
    said = subprocess.run([program, "-version"], capture_output=True, text=True)
    version = re.search(r"kotlinc-jvm (\d+)\.", said.stdout + said.stderr)
    if version is None or int(version[1]) < OLDEST:
        pytest.skip(f"{program} is no Kotlin {OLDEST}; {HOW}")
    return program


@functools.cache
def compiled() -> Path:
    """Return an archive with the app's code and what asks it, made once."""
    program = compiler()
    archive = folder_of_this_run("kotlin") / "ask.jar"
    sources = [str(path) for path in (*sorted(SOURCES.glob("*.kt")), ASK)]
    command = [program, "-language-version", LANGUAGE, "-api-version", LANGUAGE, "-jvm-target", "17", "-include-runtime"]
    done = subprocess.run([*command, "-d", str(archive), *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "warning:" in line and "language version" not in line]
    assert warnings == []
    return archive


def ask(folder: Path, questions: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """Return the answers of the app's code about a folder that `trainyard android` wrote."""
    archive = compiled()
    (scratch / "questions.json").write_text(json.dumps(questions))
    command = ["java", "-cp", str(archive), "Phone_askKt", str(folder), str(scratch / "questions.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers
