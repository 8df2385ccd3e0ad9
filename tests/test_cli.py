from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from trainyard.cli import app
from trainyard.command_help import EXAMPLES, GROUPS

COMMANDS: Any = typer.main.get_command(app)


@pytest.mark.parametrize("command", [("report",), ("verify", "--cache"), ("verify",), ("datasets",)], ids=" ".join)
def test_outside_a_project_nothing_is_said_to_be_well(tmp_path: Path, command: tuple[str, ...]) -> None:
    whole = [sys.executable, "-m", "trainyard.cli", *command]
    done = subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ERROR: ") and "folder" in done.stderr


@pytest.mark.parametrize("words", ["lessons", "explain", "explain data", "explain train"])
def test_lists_are_as_wide_as_the_terminal(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(app, words.split()).stdout.splitlines()
    # The last one is to be typed.
    assert [line for line in lines[:-1] if len(line) > 80] == []
    assert max(map(len, lines)) > 60


def test_help_begins_with_what_a_newcomer_needs_first() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {name for group in GROUPS.values() for name in group} - names == set()
    said = CliRunner().invoke(app, ["--help"]).stdout
    places = [said.index(heading) for heading in ("Data and recipes", "Runs and models", "An exported model", "Upkeep")]
    assert places == sorted(places)
    assert places[0] < said.index(" new ") < said.index(" check ") < places[1]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_a_command_are_ones_that_it_takes(name: str) -> None:
    said = " ".join(CliRunner().invoke(app, [name, "-h"]).stdout.split())
    for example in EXAMPLES[name]:
        program, *words = example.split()
        assert (program, words[0]) == ("trainyard", name) and example in said
        assert COMMANDS.commands[name].make_context(name, words[1:])


def test_every_command_that_asks_for_something_has_an_example() -> None:
    asking = {name for name, command in COMMANDS.commands.items() if any(each.required for each in command.params)}
    # Of the last three, `trainyard jobs` says what stands there.
    assert asking - set(EXAMPLES) == {"attach", "logs", "stop"}
