"""docs/features.md names tests that are there, and says rightly which of them take minutes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`( \(\*long\*\))?")


def is_long(tree: ast.Module, name: str) -> bool | None:
    """Return whether all cases of a test are marked as long; None where there is no such test."""
    marks = [
        ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["pytestmark"]
    ]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            own = [ast.unparse(decorator) for decorator in node.decorator_list]
            return any("pytest.mark.long" in mark for mark in marks) or "pytest.mark.long" in own
    return None


def test_every_feature_is_shown_by_a_test_that_is_there(root: Path) -> None:
    rows = [line for line in (root / "docs" / "features.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    said, found = {}, {}
    for row in rows:
        tests = NAMED.findall(row.rsplit(" | ", 1)[1])
        assert tests, row
        for path, name, marked in tests:
            said[path, name] = bool(marked)
            found[path, name] = is_long(ast.parse((root / path).read_text()), name)
    assert said == found
