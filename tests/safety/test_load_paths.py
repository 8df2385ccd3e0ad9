"""docs/export.md lists every way in which an artifact is read, with the test that a forged or damaged one is refused."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROW = re.compile(r"^\| (?P<what>[^|]+) \| [^|]+ \| `(?P<file>tests/[\w/]+\.py)::(?P<test>\w+)` \|$", re.MULTILINE)
READERS = {
    "load_file": "safetensors",
    "InferenceSession": "ONNX files",
    "torch.export.load": ".pt2",
    "np.load": "packed arrays",
    "torch.load": "checkpoints",
    "ParquetFile": "results by sample",
}
"""Calls that read an artifact, and the row that stands for them."""


def test_each_way_in_has_a_test_that_is_there(root: Path) -> None:
    section = (root / "docs" / "export.md").read_text().partition("## What is refused\n")[2]
    rows = list(ROW.finditer(section))
    assert len(rows) >= 11 and len(rows) == section.count("`tests/")
    for row in rows:
        tree = ast.parse((root / row["file"]).read_text())
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert row["test"] in names, row["what"]


def test_no_artifact_is_read_in_a_way_that_the_page_does_not_name(root: Path) -> None:
    section = (root / "docs" / "export.md").read_text().partition("## What is refused\n")[2]
    source = "\n".join(path.read_text() for path in (root / "src").rglob("*.py"))
    for call, named in READERS.items():
        assert f"{call}(" in source, f"{call} is used no more"
        assert named in section, f"{call} reads something that docs/export.md does not name: {named}"
