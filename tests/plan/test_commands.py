"""What `trainyard plan` shows on a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from trainyard.plan.commands import summary, table
from trainyard.plan.estimate import Estimate
from trainyard.plan.steps import Step

CODE = "code edited: src/trainyard/training/fit.py, src/trainyard/training/workers.py, src/trainyard/data/batches.py"
MEASURED = Estimate(
    seconds=200.0,
    bytes=700_000_000,
    gpu_bytes=9_000_000_000,
    how="40 steps measured, a share of 1/2 each: 10.0 ms; 19 steps an epoch, 40 epochs",
)
UNKNOWN = Estimate(seconds=None, bytes=None, how="has not run here yet")


def planned(recipe: str) -> list[tuple[Step, Estimate | None]]:
    """Return a plan in which something is up to date, something restored, and something runs."""
    why = (f"recipes.{recipe}.train.epochs: 30 -> 40", CODE)
    return [
        (Step(stage="prepare", recipe=recipe, runs=False, restored=True, reasons=("data in [old] edited",)), None),
        (Step(stage="train", recipe=recipe, runs=True, reasons=why), MEASURED),
        (Step(stage="evaluate", recipe=recipe, runs=True, reasons=(f"train@{recipe} runs before it",)), UNKNOWN),
        (Step(stage="gate", recipe=recipe, runs=False, reasons=()), None),
    ]


@pytest.mark.parametrize("recipes", [("cnn", "unet", "lstm"), ("cnn", "cells-in-phase-contrast-microscopy")], ids=len)
@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_word_of_a_plan_is_broken_however_narrow_the_terminal(recipes: tuple[str, ...], width: int) -> None:
    plan = [each for recipe in recipes for each in planned(recipe)]
    console = Console(width=width)
    with console.capture() as shown:
        console.print(table(plan))
    text = shown.get()
    assert max(map(len, text.splitlines())) <= width
    for step, estimate in plan:
        said = (step.name, *step.reasons, "" if estimate is None else estimate.how, "700.0 MB", "GPU 9.0 GB", "3:20 min")
        assert {word for words in said for word in words.split()} - set(text.split()) == set()
    lines = [line.split() for line in text.splitlines()]
    assert all([f"gate@{recipe}", "up", "to", "date"] in lines for recipe in recipes)
    # What is narrow goes below its stage, and is not a table of narrow columns; what is wide stays in the table.
    recipe = recipes[0]
    beside = f"evaluate@{recipe} runs train@{recipe} runs before it ? ? has not run here yet".split()
    assert (beside in lines) is (width == 200)


def test_the_last_line_counts_one_stage_as_one() -> None:
    assert summary(planned("cnn")[1:2]) == "1 stage runs: about 3:20 min."
    assert summary(planned("cnn")[2:3]).startswith("1 stage runs; how long it takes is not known: ")
    assert summary(planned("cnn")).startswith("2 stages run: about 3:20 min, without 1 ")


def test_the_last_line_says_why_nothing_is_known_or_runs() -> None:
    gate = Step(stage="gate", recipe="cnn", runs=True, reasons=())
    restored = Step(stage="train", recipe="cnn", runs=False, restored=True, reasons=())

    def said(*hows: str) -> str:
        return summary([(gate, Estimate(seconds=None, bytes=None, how=how)) for how in hows])

    assert "nothing like it has run here yet" in said("has not run here yet")
    assert "nothing like them has run here yet" in said("has not run here yet", "has not run here yet")
    assert "dvc repro prepare" in said("has not run here yet", "needs its data first: dvc repro prepare@cnn")
    assert summary([(restored, None)]) == "Nothing runs: DVC's cache has the results of 1 stage."
    assert "what is here" in summary([(Step(stage="train", recipe="cnn", runs=False, reasons=()), None)])
