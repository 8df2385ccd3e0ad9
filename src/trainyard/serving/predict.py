"""Many raw inputs through a model into one file: batch after batch, with what could not be answered listed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainyard.errors import InputError
from trainyard.serving.answers import Answer, check_finite
from trainyard.serving.bad_input import BadInput
from trainyard.serving.batch_inputs import Item, check_apart, items
from trainyard.serving.predictions_file import PredictionsFile
from trainyard.serving.predictor import Predictor
from trainyard.serving.raw_inputs import Sample

BATCH_SAMPLES = 32
BATCH_NUMBERS = 4_000_000
"""Pixels, tokens or numbers of a batch at most, unless one sample alone has more."""
LISTED = 10
"""Problems that the summary shows."""
ROW = re.compile(r"\[(\d+)\]\.?(.*)", flags=re.DOTALL)
"""Number of a row of a series, and what is wrong in it."""
Progress = Callable[[int], None]
Ready = tuple[Item, Sample | None, str]
"""An item, what the graph takes of it, and what is wrong where it takes nothing."""
Answered = tuple[Item, Answer | None, str]


@dataclass(slots=True)
class Summary:
    """What became of the inputs."""

    answered: int = 0
    bad: int = 0
    first: list[str] = field(default_factory=list)
    """The first ones that could not be answered, and why."""
    labels: Counter[str] = field(default_factory=Counter)
    """Of classified inputs, how many got each label."""

    def add_problem(self, name: str, problem: str, count: int = 1) -> None:
        """Count an input that could not be answered, or several with one problem."""
        self.bad += count
        if len(self.first) < LISTED:
            self.first.append(f"{name}: {problem}")

    def check(self, predictor: Predictor, paths: Sequence[Path]) -> None:
        """Go on where there was anything.

        Raises:
            InputError: there was nothing to ask about.
        """
        if not self.answered and not self.bad:
            named = ", ".join(map(str, paths))
            raise InputError(f"{named}: nothing there that {predictor.signature.recipe} takes; it takes {predictor.field}")


def predict(predictor: Predictor, paths: Sequence[Path], out: Path, progress: Progress | None = None) -> Summary:
    """Answer to all that paths hold, and write it.

    Args:
        predictor: the model.
        paths: files, or folders of them.
        out: a Parquet or CSV file; what is there is replaced once the new one is whole.
        progress: told how many inputs are done.

    Raises:
        InputError: nothing was found, or `out` is one of the files to read.
        MachineError: the file cannot be written.
    """
    return write(answered(predictor, items(paths, predictor.signature)), predictor, paths, out, progress)


def write(
    answers: Iterable[Answered], predictor: Predictor, paths: Sequence[Path], out: Path, progress: Progress | None = None
) -> Summary:
    """Write answers as they come; see `predict`."""
    summary = Summary()
    check_apart(out, paths, predictor.signature)
    with PredictionsFile(out, predictor.signature) as file:
        for item, answer, problem in answers:
            file.add(item, answer, problem)
            if answer is None:
                summary.add_problem(item.name, problem, item.count)
            else:
                summary.answered += 1
                if label := getattr(answer, "label", ""):
                    summary.labels[label] += 1
            if progress is not None:
                progress(summary.answered + summary.bad)
        summary.check(predictor, paths)
    return summary


def answered(predictor: Predictor, found: Iterable[Item]) -> Iterator[Answered]:
    """Yield the answers to items in their order; the next batch is read while one is answered."""
    parts = batches(predictor, found)
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        coming = reader.submit(next, parts, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, parts, None)
            yield from answer_batch(predictor, batch)


def answer_batch(predictor: Predictor, batch: Sequence[Ready]) -> Iterator[Answered]:
    """Yield the answers to items that are ready."""
    samples = [sample for _, sample, _ in batch if sample is not None]
    answers = iter(predictor.answer(samples))
    for item, sample, problem in batch:
        answer = None if sample is None else next(answers)
        try:
            if answer is not None:
                check_finite(answer, "")
            yield item, answer, problem
        except BadInput as error:
            yield item, None, f"{error.found}; expected {error.expected}"


def ready(predictor: Predictor, item: Item) -> Ready:
    """Return an item, without the raw input, and what the graph takes of it."""
    bare = replace(item, raw=None, places=())
    if item.raw is None:
        return bare, None, item.problem
    try:
        return bare, predictor.sample(item.raw), ""
    except BadInput as error:
        # The item's name says which input it is; what is left of the field says where in it.
        place = error.field.removeprefix(predictor.field).lstrip(".")
        if item.places and (row := ROW.match(place)):
            named, place = item.places[int(row[1])], row[2]
            bare = replace(bare, name=named or bare.name)
        return bare, None, f"{place}{': ' if place else ''}{error.found}; {error.expected}"


def batches(predictor: Predictor, found: Iterable[Item]) -> Iterator[list[Ready]]:
    """Yield items that are ready, as many at once as one call answers."""
    batch: list[Ready] = []
    numbers = 0
    for item in found:
        one = ready(predictor, item)
        size = 0 if one[1] is None else one[1].array.size
        if batch and (len(batch) == BATCH_SAMPLES or numbers + size > BATCH_NUMBERS):
            yield batch
            batch, numbers = [], 0
        batch.append(one)
        numbers += size
    if batch:
        yield batch
