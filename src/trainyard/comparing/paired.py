"""How every model differs from the first one on the same test samples, and whether chance explains it.

The tests are those of evaluation/comparison.py. With k models beside the first, k questions are asked, and the surest of them
would be answered wrongly by chance up to k times as often as one: so the verdicts hold all k answers together to 5 %, by the
method of Holm 1979 for McNemar's test, and by intervals of 100 - 5/k % (Bonferroni) for the rest. What is shown is the plain
95 % interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainyard.comparing.contender import Contender
from trainyard.evaluation.comparison import LEVEL, Difference, McNemar, is_classifier, mcnemar
from trainyard.evaluation.metrics import Estimate, Floats, bootstrap, estimate, resampled_means, scores, total
from trainyard.tasks.primary import merit

RESAMPLES, RESAMPLES_OF_MANY = 10_000, 4_000
"""Of the test samples, for two models and for more."""
LOWER = frozenset({"brier", "ece"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A model beside the first one."""

    label: str
    reference: str
    """The first one's label."""
    samples: int
    differences: tuple[Difference, ...]
    """This one less the first, the primary metric first."""
    mcnemar: McNemar | None
    """For classifiers; its probability is that of this pair alone."""
    adjusted: float | None
    """The same probability, with all models in mind (Holm 1979)."""
    better: int
    """1 where this one is better in the primary metric, -1 where the first is, 0 where chance explains it."""

    @property
    def verdict(self) -> str:
        """One sentence."""
        primary = self.differences[0]
        by = f"{primary.metric} {primary.difference.value:+.4f}, 95 % interval {primary.difference.low:+.4f} to "
        by += f"{primary.difference.high:+.4f}"
        if self.adjusted is not None and primary.metric == "accuracy":
            by += f", McNemar p = {self.adjusted:.2g}"
        if not self.better:
            return f"no difference can be told between {self.label} and {self.reference} ({by})"
        winner = self.label if self.better > 0 else self.reference
        return f"{winner} is better ({self.label} less {self.reference}: {by})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What came out of the test samples."""

    scores: Mapping[str, Mapping[str, Estimate]]
    """By label, then by metric, the primary one first; of every model that was evaluated."""
    pairs: Mapping[str, Paired]
    """By label; without those that were tested on other samples than the first, or not at all."""
    resamples: int


def held_against_first(contenders: Sequence[Contender], resamples: int | None = None, seed: int = 0) -> Findings:
    """Compare every model with the first one, where both were tested on the same samples.

    Args:
        contenders: two or more.
        resamples: of the test samples, for the intervals; None for a number that is usual for so many models.
        seed: of the resamples, which are the same for all.
    """
    resamples = resamples or (RESAMPLES if len(contenders) == 2 else RESAMPLES_OF_MANY)
    results = [contender.results for contender in contenders if contender.results is not None]
    # The same for all, or they would not be scored on the same resamples.
    block = max((found.about.block for found in results), default=1)
    drawn = {contender.label: _scored(contender, block, resamples, seed) for contender in contenders}
    estimates = {
        label: {name: estimate(value, samples) for name, (value, samples) in found.items()} for label, found in drawn.items()
    }
    first, *others = contenders
    equal = [other for other in others if same_test(first, other)]
    tests = {other.label: _mcnemar(other, first) for other in equal}
    adjusted = holm({label: test.probability for label, test in tests.items() if test is not None})
    pairs = {}
    for other in equal:
        one, reference = drawn[other.label], drawn[first.label]
        differences = _differences(one, reference)
        name = differences[0].metric
        if name == "accuracy" and (test := tests[other.label]) is not None:
            # Of accuracy the test decides: it is exact, also where few samples differ.
            sure = adjusted[other.label] < LEVEL
            better = (1 if test.first_alone > test.second_alone else -1) if sure else 0
        else:
            better = _better(name, one[name][1] - reference[name][1], len(equal))
        pairs[other.label] = Paired(
            label=other.label,
            reference=first.label,
            samples=0 if other.results is None else len(other.results),
            differences=differences,
            mcnemar=tests[other.label],
            adjusted=adjusted.get(other.label),
            better=better,
        )
    return Findings(scores={label: found for label, found in estimates.items() if found}, pairs=pairs, resamples=resamples)


def same_test(first: Contender, second: Contender) -> bool:
    """Return whether two models were tested, and on the same samples."""
    if first.results is None or second.results is None:
        return False
    one, other = first.results.about, second.results.about
    return one.kind == other.kind and one.test_sha256 == other.test_sha256


def holm(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Return probabilities adjusted for there being several, by the step-down method of Holm 1979."""
    found, least = {}, 0.0
    for rank, (label, probability) in enumerate(sorted(probabilities.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, probability * (len(probabilities) - rank)))
        found[label] = least
    return found


def higher_is_better(metric: str, value: float) -> float:
    """Return a number that is higher the better a metric is, also of those that are no errors of the test itself."""
    return -value if metric in LOWER else merit(metric, value)


def _better(metric: str, drawn: Floats, questions: int) -> int:
    tail = 100 * LEVEL / 2 / questions
    low, high = np.percentile(drawn, (tail, 100 - tail))
    if low <= 0 <= high:
        return 0
    return 1 if higher_is_better(metric, float(low)) > 0 else -1


def _differences(
    one: Mapping[str, tuple[float, Floats]], reference: Mapping[str, tuple[float, Floats]]
) -> tuple[Difference, ...]:
    return tuple(
        Difference(
            metric=name,
            first=value,
            second=reference[name][0],
            difference=estimate(value - reference[name][0], drawn - reference[name][1]),
        )
        for name, (value, drawn) in one.items()
        if name in reference
    )


def _mcnemar(other: Contender, first: Contender) -> McNemar | None:
    if other.results is None or first.results is None or not is_classifier(other.results):
        return None
    return mcnemar(other.results, first.results)


def _scored(contender: Contender, block: int, resamples: int, seed: int) -> dict[str, tuple[float, Floats]]:
    """Return every metric of a model, and it on each resample (resamples,); the primary metric first."""
    results = contender.results
    if results is None:
        return {}
    if results.about.kind == "forecasting":
        columns = {name: results.columns[name] for name in ("mse", "mae")}
        values = {name: float(column.mean()) for name, column in columns.items()}
        drawn = resampled_means(columns, block, resamples, seed)
    else:
        known = {"losses": "loss", "briers": "brier"}
        columns = {to: contender.details[name].astype(np.float64) for to, name in known.items() if name in contender.details}
        counts = replace(results.counts(), **columns)
        values = {name: float(value) for name, value in scores(results.about.kind, total(counts)).items()}
        drawn = bootstrap(results.about.kind, counts, resamples, seed)
    return {name: (values[name], drawn[name]) for name in sorted(values, key=lambda name: name != results.about.primary)}
