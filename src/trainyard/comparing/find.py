"""What the names on a command line stand for: recipes, champions, files of results, runs of the tracking store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainyard.comparing.contender import Contender, of_champion, of_recipe, of_results, of_run
from trainyard.errors import InputError, ServiceError
from trainyard.evaluation.results import read_made
from trainyard.evaluation.summary import read_reports
from trainyard.tracking.fetch import Fetch, FetchedRun, NotFetched
from trainyard.training.cluster_config import TrackingConfig

FEWEST = 2


def find(root: Path, config: TrackingConfig, names: Sequence[str], folder: Path) -> list[Contender]:
    """Return the models that names stand for, in their order.

    Args:
        root: the project.
        config: where its runs are recorded.
        names: of recipes, or paths, or ids, names or fingerprints of runs.
        folder: where files of runs may go; what comes back reads from it.

    Raises:
        InputError: fewer than two names, or one that stands for nothing.
        IntegrityError: a file cannot be read.
        ServiceError: a run was named, and the tracking store does not answer.
    """
    if len(names) < FEWEST:
        raise InputError(f"{', '.join(names) or 'nothing'}: one model is not compared with anything; name two or more")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{', '.join(twice)}: named twice; name each model once")
    kinds = {name: _kind(root, name) for name in names}
    fetch = Fetch(root, config, folder)
    asked: dict[str, tuple[str, bool]] = {}
    for name, kind in kinds.items():
        if kind == "run":
            asked[name] = (name, True)
        elif kind == "recipe" and (run_id := _run_of(root, name)):
            asked[name] = (run_id, False)
    fetch.start(list(asked.values()))
    answers = dict(zip(asked, fetch.wait(), strict=True))
    contenders = []
    for name, kind in kinds.items():
        answer = answers.get(name)
        if kind == "run":
            contenders.append(of_run(_found(root, name, fetch.place, answer), name))
        elif kind == "recipe":
            contenders.append(_recipe(root, name, fetch.place, answer))
        elif kind == "champion":
            contenders.append(of_champion(root / name, name))
        else:
            contenders.append(of_results(root / name, name))
    return labelled(contenders)


def labelled(contenders: Sequence[Contender]) -> list[Contender]:
    """Return the same with labels to read: a run that was named by its id is called by its name, where that tells it apart."""
    names = [
        contender.run.name if contender.origin == "run" and contender.run is not None else contender.label
        for contender in contenders
    ]
    twice = {name for name, count in Counter(names).items() if count > 1}
    return [
        replace(contender, label=f"{name} {contender.run.run_id[:6]}" if name in twice and contender.run else name)
        for contender, name in zip(contenders, names, strict=True)
    ]


def _kind(root: Path, name: str) -> str:
    path = root / name
    if (path / "champion.json").is_file():
        return "champion"
    if path.suffix == ".parquet":
        return "results"
    # Also where a recipe was renamed since, and its reports are still there.
    if "/" not in name and (name in _recipes(root) or (root / "reports" / name).is_dir()):
        return "recipe"
    return "run"


def _recipes(root: Path) -> list[str]:
    from trainyard.recipe import read_all

    return [recipe.name for recipe in read_all(root / "params.yaml")[0]]


def _run_of(root: Path, name: str) -> str | None:
    """Return the id of the run that trained a recipe's model, where a file says it."""
    path = root / "models" / name / "run.json"
    run_id = read_made(path, "run `dvc repro`").get("run_id") if path.is_file() else None
    return run_id if isinstance(run_id, str) else None


def _recipe(root: Path, name: str, place: str, answer: FetchedRun | NotFetched | None) -> Contender:
    if not read_reports(root / "reports" / name):
        raise InputError(f"{name}: nothing was trained yet of this recipe; run: dvc repro export@{name}")
    if isinstance(answer, FetchedRun):
        return of_recipe(root, name, answer, ())
    why = "its run was not recorded yet" if answer is None else f"MLflow at {place} {answer.problem}"
    return of_recipe(root, name, None, (f"machine, code and memory are not known here: {why}",))


def _found(root: Path, name: str, place: str, answer: FetchedRun | NotFetched | None) -> FetchedRun:
    """Return the run of a name.

    Raises:
        InputError: there is none, or several.
        ServiceError: the store did not answer.
    """
    if isinstance(answer, FetchedRun):
        return answer
    problem = "was not asked" if answer is None else answer.problem
    if answer is not None and answer.away:
        raise ServiceError(f"{name}: MLflow at {place}: {problem}; start that server, or compare recipes by their names alone")
    if answer is not None and answer.several:
        raise InputError(f"{name}: MLflow at {place} {problem}")
    known = ", ".join(_recipes(root)) or "none"
    raise InputError(
        f"{name}: is no recipe (there are: {known}), no predictions.parquet and no champion, and MLflow at {place} {problem}; "
        "`trainyard ui` shows the runs there are"
    )
