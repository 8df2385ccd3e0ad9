"""The gate, in a project of its own."""

from __future__ import annotations

import json

import pytest

from tests.pipeline.conftest import TRAINYARD, Project, rows

pytestmark = pytest.mark.pipeline


def test_a_model_below_the_minimum_is_evaluated_and_not_exported(one: Project) -> None:
    exported = one.folder / "models" / "cnn" / "model.onnx"
    before = exported.read_bytes()
    text = (one.folder / "params.yaml").read_text()
    (one.folder / "params.yaml").write_text(text.replace("gate: {on_fail: warn}", "gate: {minimum: 0.999}", 1))
    output = one.run("dvc", "repro", "export@cnn", code=255)
    assert "cnn · gate · ERROR: the model did not pass the gate, and is not exported: " in output
    assert "gate.minimum asks for at least 0.999" in output
    assert "Traceback" not in output
    assert one.stages_run(output) == ["gate@cnn"]
    verdict = json.loads((one.folder / "reports" / "cnn" / "gate.json").read_text())
    assert verdict["passed"] is False
    tags = dict(rows(one, "select key, value from tags where key like 'gate%'"))
    assert tags["gate"] == "failed" and tags["gate.minimum"].startswith("failed: accuracy ")
    assert one.stages_run(one.run("dvc", "repro", "export@cnn", code=255)) == ["gate@cnn"]
    (one.folder / "params.yaml").write_text(text)
    # Nothing is exported again: the model is the same.
    assert "export@cnn" not in one.stages_run(one.run("dvc", "repro", "export@cnn"))
    assert exported.read_bytes() == before


def test_a_champion_is_judged_by_and_does_not_export_again(one: Project) -> None:
    assert "is the champion, accuracy" in one.run(*TRAINYARD, "promote", "--force", "cnn")
    assert one.stages_run(one.run("dvc", "repro", "export@cnn")) == ["gate@cnn"]
    verdict = json.loads((one.folder / "reports" / "cnn" / "gate.json").read_text())
    assert {"name": "champion", "passed": True, "found": "this model is the champion"} in verdict["checks"]
