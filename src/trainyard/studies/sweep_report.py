"""What a sweep leaves in reports/<recipe>/sweep/: its trials as a table, what mattered, and the charts of both."""

from __future__ import annotations

import csv
import io
import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from trainyard.files import write_whole
from trainyard.studies.searcher import study_of
from trainyard.studies.sweep_config import SweepConfig
from trainyard.tasks.primary import merit
from trainyard.terminal import Rows, columns

if TYPE_CHECKING:
    from trainyard.studies.trials import Swept, Trial

LEAST_TRIALS = 4
"""Fewer tell nothing of what matters."""
BETTER = 0.25
"""The share of the trials that count as the better ones."""
SHOWN = 5
"""Trials in the table on the terminal."""


def write_report(swept: Swept, config: SweepConfig) -> None:
    """Write sweep.json, trials.csv, slices.png, and, where there are enough trials, importance.png."""
    from trainyard.studies.sweep_figures import draw_importance, draw_slices

    swept.folder.mkdir(parents=True, exist_ok=True)
    weights = importance(swept, config)
    write_whole(swept.folder / "sweep.json", f"{json.dumps(as_json(swept, weights), indent=2)}\n".encode())
    write_whole(swept.folder / "trials.csv", table(swept).encode())
    draw_slices(swept, config, swept.folder / "slices.png")
    if weights:
        draw_importance(swept, weights, swept.folder / "importance.png")
    else:
        (swept.folder / "importance.png").unlink(missing_ok=True)


def importance(swept: Swept, config: SweepConfig) -> dict[str, float]:
    """Return how much of the differences between trials each key explains, most first; nothing where too few trials tell.

    By PED-ANOVA (Watanabe 2023, arXiv:2304.10255), which compares where the better trials lie with where all lie. Trials
    that were ended early count with what they had reached.
    """
    import optuna

    scored = [trial for trial in swept.trials if trial.number in swept.scores]
    merits = {trial.number: merit(swept.metric, swept.scores[trial.number]) for trial in scored}
    if len(scored) < LEAST_TRIALS or len(set(merits.values())) < 2:
        return {}
    study = study_of(config, [replace(trial, state="finished") for trial in scored], lambda trial: [merits[trial.number]])
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BETTER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(config.over))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def as_json(swept: Swept, weights: dict[str, float]) -> dict[str, Any]:
    """Return all of it as plain values."""
    return {
        "recipe": swept.recipe,
        "metric": f"val/{swept.metric}",
        "best": {"trial": swept.best, "score": swept.scores[swept.best], "values": swept.values},
        "importance": weights,
        "training_seconds": round(sum(trial.seconds for trial in swept.trials), 2),
        "trials": [
            {
                "number": trial.number,
                "values": trial.values,
                "state": trial.state,
                "epochs": len(trial.history),
                "score": swept.scores.get(trial.number),
                "seconds": round(trial.seconds, 2),
                "attempts": trial.attempts,
                **({"reason": trial.reason} if trial.reason else {}),
            }
            for trial in swept.trials
        ],
    }


def table(swept: Swept) -> str:
    """Return the trials as CSV, the best first."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    keys = list(swept.values)
    writer.writerow(["trial", f"val/{swept.metric}", "state", "epochs", "seconds", *keys])
    for trial in ranked(swept):
        values = [value if isinstance(value := trial.values[key], int | float | str) else json.dumps(value) for key in keys]
        score = swept.scores.get(trial.number)
        told = "" if score is None else f"{score:.6g}"
        writer.writerow([trial.number, told, trial.state, len(trial.history), f"{trial.seconds:.2f}", *values])
    return text.getvalue()


def ranked(swept: Swept) -> list[Trial]:
    """Return the trials, the best first, those without a score last."""

    def place(trial: Trial) -> tuple[bool, bool, float, int]:
        score = swept.scores.get(trial.number)
        return trial.number != swept.best, score is None, -merit(swept.metric, score or 0.0), trial.number

    return sorted(swept.trials, key=place)


def render(swept: Swept) -> RenderableType:
    """Return the best trials as a table, and where the rest is."""
    keys = list(swept.values)
    names = ("trial", f"val {swept.metric}", "epochs", *(key.partition(".")[2] for key in keys))
    rows = []
    for trial in ranked(swept)[:SHOWN]:
        score = swept.scores.get(trial.number)
        epochs = f"{len(trial.history)}{'' if trial.state == 'finished' else f' ({trial.state})'}"
        values = [f"{value:.4g}" if isinstance(value := trial.values[key], float) else json.dumps(value) for key in keys]
        rows.append((str(trial.number), "" if score is None else f"{score:.4f}", epochs, *values))
    counts = {state: sum(trial.state == state for trial in swept.trials) for state in ("finished", "stopped", "failed")}
    told = ", ".join(f"{number} {'ended early' if state == 'stopped' else state}" for state, number in counts.items() if number)
    head = f"{swept.recipe}: {len(swept.trials)} trials ({told}); the validation split chose, the test split was not read"
    return Group(
        Text(f"{head}\n"),
        Rows(columns(3, names), rows),
        Text(f"\nreports/{swept.recipe}/sweep/: sweep.json, trials.csv, charts", style="dim"),
    )
