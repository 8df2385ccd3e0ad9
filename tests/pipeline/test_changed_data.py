"""Packed data that changed between stages `prepare` and `train`: nothing is trained on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """\
recipes:
  digits:
    family: cnn
    data: {source: digits, path: requirements.lock}
    model: {widths: [8]}
    train: {epochs: 1, batch_size: 64, optimizer: adam, learning_rate: 1e-3}
    evaluate: {}
    export: {}
cluster: {workers: 0}
"""


@pytest.mark.parametrize("change", ["a bit", "gone"])
def test_a_changed_array_is_named_and_nothing_is_trained(root: Path, digits_copy: Path, change: str) -> None:
    folder, array = digits_copy.parent, digits_copy / "val" / "images.npy"
    (folder / "params.yaml").write_text(RECIPE)
    if change == "gone":
        array.unlink()
    else:
        content = bytearray(array.read_bytes())
        content[-1] ^= 1
        array.write_bytes(content)
    done = subprocess.run(
        [sys.executable, str(root / "pipeline" / "train.py"), "digits", "packed", "models", "reports"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 5, done.stderr
    headline = (
        "digits · train · ERROR: packed/val/images.npy: is not what the card was written for; run `trainyard repair --cache`"
    )
    assert headline in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "models").exists() and not (folder / "mlflow.db").exists()
