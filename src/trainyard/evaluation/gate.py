"""Stage `gate`: is the model good enough to be exported? Worse than baseline, minimum or champion, it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import IntegrityError
from trainyard.evaluation.champion import read_champion
from trainyard.evaluation.comparison import differences
from trainyard.evaluation.gate_config import GateConfig
from trainyard.evaluation.metrics import Estimate
from trainyard.evaluation.results import Results, read_made, read_results
from trainyard.files import write_whole
from trainyard.tasks.primary import merit

RESAMPLES = 1000
"""From which the interval of the difference to the champion is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question, and its answer."""

    name: str
    passed: bool | None
    """None where it could not be asked."""
    found: str
    """In words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says of a model."""

    recipe: str
    fingerprint: str
    metric: str
    value: float
    passed: bool
    on_fail: str
    checks: tuple[Check, ...]

    @property
    def admitted(self) -> bool:
        """Whether the pipeline goes on."""
        return self.passed or self.on_fail == "warn"

    def failures(self) -> list[str]:
        """Return what is wrong with the model, in words."""
        return [check.found for check in self.checks if check.passed is False]

    def tags(self) -> dict[str, str]:
        """Return what the tracking server is told."""
        answers = {True: "passed", False: "failed", None: "not asked"}
        result = "passed" if self.passed else ("failed" if self.on_fail == "stop" else "warned")
        # All of them each time, so that the run does not keep an answer to what is asked no more.
        unasked = {f"gate.{name}": "not asked" for name in ("minimum", "baseline", "champion")}
        found = {f"gate.{check.name}": f"{answers[check.passed]}: {check.found}" for check in self.checks}
        return {"gate": result, **unasked, **found}


def judge(config: GateConfig, metrics: Mapping[str, Any], results_path: Path, champion_dir: Path) -> Verdict:
    """Ask all that the recipe wants of the model whose results by sample are in a file.

    Args:
        config: what is asked.
        metrics: of the evaluation.
        results_path: its results by sample.
        champion_dir: of the recipe; it need not exist.

    Raises:
        IntegrityError: a file cannot be read, or they are not of one evaluation.
    """
    results = read_results(results_path)
    about = results.about
    name = f"test/{about.primary}"
    if not isinstance(value := metrics.get(name), float):
        raise IntegrityError(f"{results_path}: no {name} was found beside it; run `dvc repro` to evaluate the recipe again")
    asked = (
        _minimum(config.minimum, about.primary, value) if config.minimum is not None else None,
        _baseline(about.primary, metrics) if config.baseline else None,
        _champion(results, champion_dir) if config.champion else None,
    )
    checks = tuple(check for check in asked if check is not None)
    return Verdict(
        recipe=about.recipe,
        fingerprint=about.fingerprint,
        metric=about.primary,
        value=value,
        passed=not any(check.passed is False for check in checks),
        on_fail=config.on_fail,
        checks=checks,
    )


def write_verdict(path: Path, admitted: Path, verdict: Verdict) -> None:
    """Write the verdict, and the mark without which nothing is exported; a model that is stopped has none.

    The mark says no more than which model may pass, so that one that is judged again, with the same end, is not exported again.
    """
    values = {**asdict(verdict), "checks": [asdict(check) for check in verdict.checks]}
    write_whole(path, f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode())
    if verdict.admitted:
        write_whole(admitted, f"{json.dumps({'fingerprint': verdict.fingerprint})}\n".encode())


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the metrics of an evaluation.

    Raises:
        InputError: there are none yet.
        IntegrityError: the file cannot be read.
    """
    return read_made(path, "run `dvc repro` to evaluate the recipe")


def _minimum(minimum: float, metric: str, value: float) -> Check:
    passed = merit(metric, value) >= merit(metric, minimum)
    bound = "at most" if merit(metric, 1.0) < 0 else "at least"
    return Check(name="minimum", passed=passed, found=f"{metric} {value:.4f}, gate.minimum asks for {bound} {minimum:g}")


def _baseline(metric: str, metrics: Mapping[str, Any]) -> Check:
    name = f"test/{metric}_minus_baseline"
    if name not in metrics:
        return Check(name="baseline", passed=None, found="no baseline was evaluated (evaluate.baseline: false)")
    difference, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    return _compared("baseline", metric, metrics[f"baseline/{metric}"], Estimate(difference, low, high))


def _champion(results: Results, folder: Path) -> Check:
    found = read_champion(folder)
    if found is None:
        return Check(name="champion", passed=None, found="there is none yet to hold it against")
    champion, others = found
    about = results.about
    if champion.fingerprint == about.fingerprint:
        return Check(name="champion", passed=True, found="this model is the champion")
    if champion.test_sha256 != about.test_sha256 or champion.metric != about.primary:
        return Check(
            name="champion", passed=None, found=f"{champion.fingerprint} was tested on other samples and cannot be compared"
        )
    primary = differences(results, others, RESAMPLES, 0)[0]
    return _compared("champion", primary.metric, primary.second, primary.difference)


def _compared(name: str, metric: str, other: float, difference: Estimate) -> Check:
    """Return whether a model is no worse than another one, as far as the interval of the difference can tell."""
    ends = [merit(metric, end) for end in (difference.low, difference.high)]
    words = "worse than" if max(ends) < 0 else "better than" if min(ends) > 0 else "not to be told from"
    value, interval = difference.value, f"{difference.low:+.4f} to {difference.high:+.4f}"
    numbers = f"{metric} {other + value:.4f}, {name} {other:.4f}; difference {value:+.4f}, {interval}"
    return Check(name=name, passed=max(ends) >= 0, found=f"{words} the {name} ({numbers})")
