"""The champion of a recipe: the trained state that others are held against.

    champions/<recipe>/champion.json     what it is: fingerprint, metric, hashes of its weights and of the data it was tested on
    champions/<recipe>/results.parquet   what it made of each test sample

A folder of the project, for git to keep, and an input of stage `gate`: a model that passed before there was this champion is
judged again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trainyard.data.packed import file_sha256
from trainyard.errors import InputError, IntegrityError
from trainyard.evaluation.results import Results, read_made, read_results, write_compared
from trainyard.files import write_whole

THROUGH_GATE = "run `dvc repro gate` first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """What champion.json says."""

    recipe: str
    fingerprint: str
    metric: str
    value: float
    low: float
    high: float
    """Of the 95 % interval."""
    test_sha256: str
    """The identity of the tested samples."""
    weights_sha256: str
    commit: str
    """Of git; empty outside a repository."""
    results_sha256: str


def read_champion(folder: Path) -> tuple[Champion, Results] | None:
    """Return a recipe's champion and its results, or None where there is none.

    Raises:
        IntegrityError: a file is none of ours, or does not fit the other.
    """
    path, results_path = folder / "champion.json", folder / "results.parquet"
    if not path.is_file():
        return None
    again = "restore it from git, or delete the folder and run `trainyard promote` again"
    try:
        champion = Champion(**json.loads(path.read_text(encoding="utf-8")))
        if file_sha256(results_path) != champion.results_sha256:
            raise ValueError(f"{results_path.name} is not the one that it was written for")
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(f"{path}: is no champion ({error}); {again}") from None
    return champion, read_results(results_path)


def promote(root: Path, recipe: str, commit: str, *, force: bool) -> Champion:
    """Make the model that a recipe has now its champion.

    Raises:
        InputError: it is not trained, evaluated and through the gate, as it is now.
        IntegrityError: a file cannot be read.
    """
    reports, models = root / "reports" / recipe, root / "models" / recipe
    results = read_results(reports / "predictions.parquet")
    saved = read_made(models / "recipe.json", THROUGH_GATE)
    if results.about.fingerprint != saved["fingerprint"]:
        raise InputError(
            f"{recipe}: its evaluation is of {results.about.fingerprint}, not of the model in {models}; run `dvc repro`"
        )
    gate = read_made(reports / "gate.json", THROUGH_GATE)
    if gate["fingerprint"] != saved["fingerprint"] or not (gate["passed"] or force):
        raise InputError(
            f"{recipe}: did not pass the gate (reports/{recipe}/gate.json says why); --force promotes it all the same"
        )
    metrics, metric = read_made(reports / "evaluate.json", THROUGH_GATE), results.about.primary
    folder = root / "champions" / recipe
    write_compared(reports / "predictions.parquet", folder / "results.parquet")
    champion = Champion(
        recipe=recipe,
        fingerprint=saved["fingerprint"],
        metric=metric,
        value=metrics[f"test/{metric}"],
        low=metrics[f"test/{metric}_low"],
        high=metrics[f"test/{metric}_high"],
        test_sha256=results.about.test_sha256,
        weights_sha256=saved["weights_sha256"],
        commit=commit,
        results_sha256=file_sha256(folder / "results.parquet"),
    )
    # Last: without it there is no champion.
    write_whole(folder / "champion.json", f"{json.dumps(asdict(champion), indent=2)}\n".encode())
    return champion
