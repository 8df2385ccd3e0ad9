from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.conftest import make_project
from tests.web import Web

pytestmark = pytest.mark.pipeline
DESCRIPTOR = """\
name: stripes
about: Stripes of two directions
licence: {name: CC0, url: "https://example.org/cc0"}
citation: Nobody
source: idx_files
files:
"""


def published() -> dict[str, bytes]:
    """Return forty images of stripes and their labels."""
    labels = (np.arange(40) % 2).astype(np.uint8)
    images = np.zeros((40, 8, 8), dtype=np.uint8)
    images[labels == 0, ::2], images[labels == 1, :, ::2] = 255, 255
    images[:, 0, 0] = np.arange(40)
    files = {}
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
        files[f"train-{kind}-ubyte.gz"] = gzip.compress(head + array.tobytes())
    return files


def test_dvc_fetches_once_and_prepares_again_only_when_the_descriptor_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = published()
    source = "{source: digits, path: requirements.lock, seed: 0, val_fraction: 0.15, test_fraction: 0.2}"
    project = make_project(root, tmp_path, {source: "{source: idx_files, path: stripes.yaml}"})
    text = DESCRIPTOR
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        text += f'  - {{name: {name}, urls: ["http://example.org/{name}"], bytes: {len(content)}, sha256: "{digest}"}}\n'
    (tmp_path / "stripes.yaml").write_text(text)
    with Web({f"/stripes/{name}": content for name, content in files.items()}) as web:
        project.environment["TRAINYARD_MIRROR"] = web.url
        output = project.run("dvc", "repro", "prepare@cnn")
        assert "licence of stripes: CC0, https://example.org/cc0" in output
        assert project.stages_run(output) == ["prepare@cnn"]
        assert project.stages_run(project.run("dvc", "repro", "prepare@cnn")) == []
        (tmp_path / "stripes.yaml").write_text(text.replace("two directions", "both directions"))
        output = project.run("dvc", "repro", "prepare@cnn")
        assert project.stages_run(output) == ["prepare@cnn"]
        assert "fetches" not in output
        assert len(web.asked) == 2
    assert "Stripes of both directions" in (tmp_path / "data" / "prepared" / "cnn" / "card.json").read_text()
