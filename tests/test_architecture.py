"""What docs/architecture.md says of imports, against the imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src" / "trainyard"
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def importers(library: str) -> set[str]:
    """Return the files that import a library, at their top or within functions."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.partition(".")[0] == library for name in names):
                found.add(str(path.relative_to(SOURCES)))
    return found


@pytest.mark.parametrize(("heading", "library"), [("Ray", "ray"), ("MLflow", "mlflow")])
def test_the_files_that_know_a_framework_are_the_ones_that_the_page_names(heading: str, library: str) -> None:
    section = PAGE.read_text().partition(f"## Which files know {heading}\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w/.]+)` \|", section, flags=re.MULTILINE)) == importers(library)


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"\b((?:training|tracking)/\w+\.py)\b", PAGE.read_text()))
    assert named and [name for name in named if not (SOURCES / name).is_file()] == []
