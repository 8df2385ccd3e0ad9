"""The note on a run in MLflow: what its stages found so far, and a picture."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainyard.data.packed import Card
from trainyard.evaluation.summary import duration, file_size, read_reports
from trainyard.tasks.primary import PRIMARY
from trainyard.tracking.appearance import RENEWED

RUN = "{run_id}"
"""Stands for the run's own id, which only the tracking store knows."""
PICTURES = ("samples.png", "forecasts.png")
"""Of the figures, the first one that there is."""
PLACE = ("note", "preview.png")
"""Folder and name of the picture among the run's files. MLflow shows a note's pictures as large as they are."""
WIDTH = 640
"""Pixels of it."""


def note(report_dir: Path, card: Card, stages: Sequence[str]) -> str:
    """Return Markdown on what the stages up to now have found; what lies there of an earlier run of later ones is left out.

    Raises:
        IntegrityError: a report cannot be read.
    """
    found = {stage: values for stage, values in read_reports(report_dir).items() if stage in stages}
    primary = PRIMARY[card.kind]
    rows = [("data", _data(card)), *_trained(found.get("train", {}), primary), *_exported(found.get("export", {}))]
    lines = [_headline(found, primary), "", "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]
    if (picture := _picture(report_dir)) is not None:
        lines += ["", f"![{picture.name}](get-artifact?path={'%2F'.join(PLACE)}&run_uuid={RUN})"]
    return "\n".join([*lines, "", RENEWED])


@contextmanager
def preview(report_dir: Path) -> Iterator[list[Path]]:
    """Make the picture of the note from the figures, for as long as the block lasts; no picture where there is no figure.

    Raises:
        OSError: the disk is full.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="trainyard-note-") as folder:
        path = Path(folder) / PLACE[1]
        if (picture := _picture(report_dir)) is not None:
            with Image.open(picture) as image:
                image.thumbnail((WIDTH, WIDTH))
                image.save(path)
        yield [path] if picture is not None else []


def _picture(report_dir: Path) -> Path | None:
    found = (report_dir / "figures" / name for name in PICTURES)
    return next((path for path in found if path.is_file()), None)


def _headline(found: dict[str, dict[str, Any]], primary: str) -> str:
    scores, verdict = found.get("evaluate", {}), found.get("gate", {})
    parts = []
    for who in ("test", "baseline"):
        if (value := scores.get(f"{who}/{primary}")) is not None:
            ends = [scores.get(f"{who}/{primary}{end}") for end in ("_low", "_high")]
            interval = f" ({ends[0]:.4f} to {ends[1]:.4f})" if None not in ends else ""
            parts.append(f"**{who} {primary} {value:.4f}**{interval}" if who == "test" else f"{who} {value:.4f}{interval}")
    if verdict:
        parts.append("passed the gate" if verdict.get("passed") else "**did not pass the gate**")
    return " · ".join(parts)


def _data(card: Card) -> str:
    return f"{card.source}: {', '.join(f'{count:,} {split}' for split, count in card.samples.items())}; `{card.sha256[:12]}`"


def _trained(values: dict[str, Any], primary: str) -> list[tuple[str, str]]:
    if not values:
        return []
    best = f"{values[f'best/{primary}']:.4f} in epoch {values['best/epoch']} of {values['epochs']}"
    took = f"{duration(values['seconds'])}, {values['samples_per_s']:,.0f} samples/s"
    return [("best val " + primary, best), ("training", took), ("parameters", f"{values['parameters']:,}")]


def _exported(values: dict[str, Any]) -> list[tuple[str, str]]:
    if not {"size_bytes", "latency_p50_ms"} <= values.keys():
        return []
    return [("export", f"{file_size(values['size_bytes'])}, {values['latency_p50_ms']:.3g} ms a sample")]
