"""What is wrong with the numbers of replicas, or with the machine, is said before a Ray is started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trainyard.cli import app
from trainyard.errors import InputError, IntegrityError, MachineError
from trainyard.on_ray.scaling import Scaling


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"min_replicas": 0}, "min_replicas: 0"),
        ({"min_replicas": 5, "max_replicas": 4}, "max_replicas: 4 is fewer than min_replicas, 5"),
        ({"target_load": 0}, "target_load: 0"),
    ],
)
def test_numbers_of_replicas_that_contradict_each_other_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Scaling(**values)


def test_a_command_for_replicas_that_cannot_be_is_refused(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*options: str) -> None:
        CliRunner().invoke(app, ["serve", str(models["photos"]), "--address", "local", *options], catch_exceptions=False)

    with pytest.raises(InputError, match="max_replicas: 1 is fewer than min_replicas, 2"):
        run("--min-replicas", "2", "--max-replicas", "1")
    with pytest.raises(IntegrityError, match=r"--host 0\.0\.0\.0: whoever reaches this machine could ask"):
        run("--host", "0.0.0.0")
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    with pytest.raises(MachineError, match=r"replicas need what Ray Serve imports .*pip install 'ray\[serve\]"):
        run()
