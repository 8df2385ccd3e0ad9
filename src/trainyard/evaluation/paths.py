"""The files that evaluation writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """Where each goes."""

    metrics: Path
    """JSON, numbers only, for DVC and the tracking server."""
    per_class: Path
    """CSV, one row a class, or a step of the horizon."""
    figures: Path
    """Folder of PNG files."""
    report: Path
    """JSON, everything: metrics, classes, calibration, what was chosen on the validation split."""
    results: Path
    """Parquet, one row a test sample."""
    worst: Path
    """CSV, the samples that the model is worst at."""

    @classmethod
    def within(cls, folder: Path) -> ReportPaths:
        """Return the files of a report in one folder."""
        return cls(
            metrics=folder / "evaluate.json",
            per_class=folder / "per_class.csv",
            figures=folder / "figures",
            report=folder / "report.json",
            results=folder / "predictions.parquet",
            worst=folder / "worst.csv",
        )
