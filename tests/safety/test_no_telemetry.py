"""No library that is used here tells its makers of it, also where the user's environment says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPEN = """
from trainyard.serving import predictor  # as whoever answers with a model
import onnx
from onnx import TensorProto, helper

value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = predictor.onnxruntime.InferenceSession(model.SerializeToString())
session.run(None, {"x": [1.0]})
"""


@pytest.fixture
def environment(root: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is opted out of, with an empty home."""
    named = ("TELEMETRY", "DO_NOT_TRACK", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not any(part in name for part in named)}
    return {**kept, "HOME": str(tmp_path), "PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def test_a_model_that_is_opened_leaves_no_events_to_send(environment: dict[str, str], tmp_path: Path) -> None:
    # Where it is not told otherwise, onnxruntime keeps them in ~/.cache/Microsoft, with a number for the machine.
    done = subprocess.run([sys.executable, "-c", OPEN], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_every_process_of_ours_says_that_it_wants_none(environment: dict[str, str]) -> None:
    code = "import trainyard, os; print(*(os.environ[name] for name in ('ORT_DISABLE_TELEMETRY', 'MLFLOW_DISABLE_TELEMETRY')))"
    for given, expected in ({}, "1 true"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "1 false"):
        done = subprocess.run([sys.executable, "-c", code], env={**environment, **given}, capture_output=True, text=True)
        assert done.stdout.split() == expected.split(), done.stderr
