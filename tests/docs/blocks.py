"""The commands of a page: what it shows in fences of bash and python, and what their comments say of running them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NOTE = re.compile(r"<!-- (long|background|not run: .+|run by .+) -->")
FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*)")
NUMBER = re.compile(r"\d+:\d\d min\b|\d[\d.]* s\b|[-+]?\d[\d.,:e+-]*|\b[0-9a-f]{7,40}\b")


@dataclass
class Block:
    """One fence."""

    page: str
    line: int
    language: str
    text: str
    note: str
    """What the comment above it says: `long`, `background`, `not run: why`, `run by tests/...`; empty where there is none."""
    shown: str = ""
    """What the page says that it prints: the fence of text right after it."""

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is run here."""
        return self.language in ("bash", "python") and not self.note.startswith(("not run", "run by"))


def read(root: Path, page: str) -> list[Block]:
    """Return the fences of a page in their order."""
    found: list[Block] = []
    note, inside, between = "", None, False
    for number, line in enumerate((root / page).read_text(encoding="utf-8").splitlines(), 1):
        if fence := FENCE.fullmatch(line):
            if inside is None:
                inside = Block(page, number, fence["language"], "", note)
            else:
                if inside.language == "text" and between and found:
                    found[-1].shown = inside.text
                between = inside.language == "bash"
                found.append(inside)
                inside, note = None, ""
        elif inside is not None:
            inside.text += f"{line}\n"
        elif comment := NOTE.fullmatch(line.strip()):
            note = comment[1]
        elif line.strip():
            note, between = "", False
    assert inside is None, f"{page}: a fence is not closed"
    return found


def pages(root: Path) -> list[str]:
    """Return the pages whose commands a reader types; those of lessons are run by tests/lessons."""
    found = [*(root / "docs").rglob("*.md"), *(root / "examples").glob("*.md"), root / "README.md", root / "CONTRIBUTING.md"]
    return sorted(str(path.relative_to(root)) for path in found if path.parent.name != "lessons")


def alike(line: str) -> str:
    """Return a line of output without what differs from run to run: numbers, hashes, the width of gaps."""
    return " ".join(NUMBER.sub("#", line.replace("│", " ")).split())
