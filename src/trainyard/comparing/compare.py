"""`trainyard compare`: models are found, held against the first, and shown on a page, on the terminal and as JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from trainyard.comparing.chosen import asked_the_same
from trainyard.comparing.contender import Contender
from trainyard.comparing.find import find
from trainyard.comparing.page import page
from trainyard.comparing.paired import Findings, Paired, held_against_first
from trainyard.errors import InputError
from trainyard.files import write_whole
from trainyard.masking import mask
from trainyard.terminal import Rows, columns
from trainyard.training.cluster_config import TrackingConfig

WHY_MCNEMAR = (
    "McNemar's exact test: both were asked the same samples, so only those on which they disagree tell them apart "
    "(Dietterich 1998)"
)
WHY_BOOTSTRAP = "paired bootstrap: both are scored on the same resamples, because this metric is no mean over single samples"
WHY_BLOCKS = "paired bootstrap of runs of windows, because windows that follow one another share steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came out."""

    contenders: tuple[Contender, ...]
    findings: Findings
    path: Path
    """Of the page."""


def compare(root: Path, config: TrackingConfig, names: Sequence[str], path: Path, resamples: int | None) -> Comparison:
    """Compare models, and write the page.

    Args:
        root: the project.
        config: where its runs are recorded.
        names: of recipes, or paths, or ids, names or fingerprints of runs; the others are held against the first.
        path: of the page.
        resamples: of the test samples; None for a number that is usual.

    Raises:
        InputError: a name stands for nothing, there is only one, or the page would be a folder.
        IntegrityError: a file cannot be read.
        ServiceError: a run was named, and the tracking store does not answer.
        OSError: the disk is full.
    """
    if path.is_dir():
        raise InputError(f"--page {path}: is a folder; name a file, such as {path / 'comparison.html'}")
    with tempfile.TemporaryDirectory(prefix="trainyard-compare-") as folder:
        contenders = find(root, config, names, Path(folder))
        findings = held_against_first(contenders, resamples)
        packed = sorted(str(card.parent) for card in (root / "data" / "prepared").glob("*/card.json"))
        shown = page(contenders, findings, asked_the_same(packed, contenders))
    # Parameters and names come from elsewhere; the page goes to others.
    write_whole(path, mask(shown).encode())
    return Comparison(contenders=tuple(contenders), findings=findings, path=path)


def render(found: Comparison) -> RenderableType:
    """Return a table, the verdicts and their reasons, for the terminal."""
    first, *others = found.contenders
    lines: list[RenderableType] = []
    if len(found.contenders) == 2 and (pair := found.findings.pairs.get(others[0].label)) is not None:
        lines += _pair(pair)
    else:
        lines += [_many(found), Text()]
        lines += [Text(pair.verdict, style="bold" if pair.better else "") for pair in found.findings.pairs.values()]
    lines += [Text(_not_same(first, other), style="bold red") for other in others if other.label not in found.findings.pairs]
    reasons = [Padding(Text(why, style="dim"), (0, 0, 0, 2)) for why in reasons_of(found.findings)]
    return Group(*lines, *reasons, Text(), Text(f"page: {found.path}", style="cyan"))


def as_json(found: Comparison) -> dict[str, Any]:
    """Return the same for programs."""
    first, *others = found.contenders
    pairs = []
    for other in others:
        pair = found.findings.pairs.get(other.label)
        told: dict[str, Any] = {"model": other.label, "reference": first.label, "same_test": pair is not None}
        if pair is not None:
            told |= {**asdict(pair), "verdict": pair.verdict}
            del told["label"]
        else:
            told["verdict"] = _not_same(first, other)
        pairs.append(told)
    models = [
        {
            "label": one.label,
            "place": one.place,
            "fingerprint": one.fingerprint or None,
            "run_id": None if one.run is None else one.run.run_id,
            "test_sha256": one.test_sha256,
            "scores": {name: asdict(score) for name, score in found.findings.scores.get(one.label, {}).items()},
        }
        for one in found.contenders
    ]
    return {"page": str(found.path), "models": models, "pairs": pairs, "reasons": reasons_of(found.findings)}


def reasons_of(findings: Findings) -> list[str]:
    """Return why each test is the one for its numbers."""
    pairs = list(findings.pairs.values())
    if not pairs:
        return []
    if pairs[0].differences[0].metric == "mse":
        return [WHY_BLOCKS]
    several = [f"{len(pairs)} comparisons at once: the verdicts are adjusted for that (Holm 1979, Bonferroni)"] * (
        len(pairs) > 1
    )
    return [*([f"accuracy: {WHY_MCNEMAR}"] if pairs[0].mcnemar else []), f"others: {WHY_BOOTSTRAP}", *several]


def _pair(pair: Paired) -> list[RenderableType]:
    rows = []
    for one in pair.differences:
        low, high = one.difference.low, one.difference.high
        style = "" if low <= 0 <= high else "bold"
        row = (
            one.metric,
            f"{one.second:.4f}",
            f"{one.first:.4f}",
            f"{one.difference.value:+.4f}",
            f"{low:+.4f} to {high:+.4f}",
        )
        rows.append([Text(cell, style=style) for cell in row])
    table = Rows(columns(1, ("metric", pair.reference, pair.label, "difference", "95 % interval")), rows)
    lines: list[RenderableType] = [Text(f"{pair.samples:,} test samples, the same for both\n"), table, Text()]
    if (test := pair.mcnemar) is not None:
        count = f"{test.second_alone:,} samples that only {pair.reference} gets right, "
        count += f"{test.first_alone:,} that only {pair.label} does"
        lines.append(Text(f"{count}: p = {test.probability:.2g}"))
    return [*lines, Text(pair.verdict, style="bold")]


def _many(found: Comparison) -> Rows:
    names = ("model", "metric", "test (95 %)", f"less {found.contenders[0].label} (95 %)")
    rows: list[tuple[str | Text, ...]] = []
    for one in found.contenders:
        scores, pair = found.findings.scores.get(one.label, {}), found.findings.pairs.get(one.label)
        name, score = next(iter(scores.items()), ("", None))
        reached = "not evaluated" if score is None else f"{score.value:.4f} ({score.low:.4f} to {score.high:.4f})"
        apart = ""
        if pair is not None:
            estimate = pair.differences[0].difference
            apart = f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"
        rows.append((Text(one.label, style="bold" if pair is not None and pair.better else ""), name, reached, apart))
    return Rows(columns(2, names), rows)


def _not_same(first: Contender, other: Contender) -> str:
    if other.test_sha256 and first.test_sha256 and other.test_sha256 != first.test_sha256:
        tested = f"test data {first.test_sha256[:12]} and {other.test_sha256[:12]}"
        return f"{first.label} and {other.label} were not tested on the same data ({tested}): their numbers do not compare"
    unknown = other.label if other.results is None else first.label
    return f"{first.label} and {other.label}: nothing is known of {unknown} by test sample, so no difference can be stated"
