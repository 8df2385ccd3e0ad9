"""What a terminal of 80 columns shows, and that no word of it is broken."""

from __future__ import annotations

from rich.console import Console, RenderableType


def narrow(found: RenderableType, *said: str, width: int = 80) -> list[str]:
    """Return the lines; all that is to be said is among them, each on a line, and none is too long."""
    console = Console(width=width)
    with console.capture() as shown:
        console.print(found)
    lines = [line.rstrip() for line in shown.get().splitlines()]
    assert [line for line in lines if len(line) > width] == []
    assert [words for words in said if not any(words in line for line in lines)] == [], "\n".join(lines)
    return lines
