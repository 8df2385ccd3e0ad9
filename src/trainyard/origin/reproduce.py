"""`trainyard reproduce RUN`: a recorded run done again from its commit, parameters and data, and held against what it recorded.

.trainyard/reproduce/<run id>/tree          its files, while it runs, and for as long as it differs
                              report.json   what was compared, and what came out
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from trainyard.data.packed import file_sha256, read_card
from trainyard.errors import InputError, MachineError
from trainyard.file_lock import hold
from trainyard.files import write_whole
from trainyard.inputs import named_file
from trainyard.origin.compared import Cause, Difference, causes, first_of_curves, first_of_values
from trainyard.origin.record import FILE, FOLDER, PATCH, machine, packages
from trainyard.origin.tree import Say, Tree, bring_data, bring_file, grow

if TYPE_CHECKING:
    from trainyard.tracking.lookup import Lookup, Recorded


@dataclass(slots=True, kw_only=True)
class Report:
    """What came out."""

    run_id: str
    name: str
    recipe: str
    commit: str
    identical: bool = False
    """Weights, curves and test metrics have the same bits."""
    compared: list[str] = field(default_factory=list)
    first: Difference | None = None
    causes: list[Cause] = field(default_factory=list)
    """The likeliest first."""
    notes: list[str] = field(default_factory=list)
    kept: str = ""
    """Where the files are that it made."""


def reproduce(root: Path, named: str, open_store: Callable[[], Lookup], say: Say, *, keep: bool = False) -> Report:
    """Do a run again, and compare.

    Args:
        root: the project.
        named: a run's id, key, fingerprint or name; or a recipe, for the run of its model as it is now.
        open_store: opens the tracking store.
        say: told what happens.
        keep: the files also where they are the same.

    Raises:
        InputError: there is no such run, or several, it did not record enough, or its commit or data are not here.
        TrainyardError: a stage failed.
    """
    store = open_store()
    run = find(root, named, store)
    origin = read_origin(store, run)
    code, recipe = origin["code"], str(origin["recipe"])
    report = Report(run_id=run.run_id, name=run.name, recipe=recipe, commit=code["commit"])
    if not code["whole"]:
        left = f": {', '.join(code['left_out'][:5])}" if code["left_out"] else ""
        report.notes.append(f"not all that differed from the commit was recorded{left}")
    place = root / ".trainyard" / "reproduce" / run.run_id
    with _alone(place):
        patch = store.file(run.run_id, f"{FOLDER}/{PATCH}") if code["patch_sha256"] else None
        tree = grow(place, root, origin, patch, say)
        say(f"{run.name}: commit {code['commit'][:12]}{', and what differed from it' if patch else ''}, in {tree.folder}")
        bring_data(tree, root, origin, say)
        sha256 = read_card(tree.folder / tree.data).sha256
        if sha256 != origin["data"]["sha256"]:
            # Without the same data nothing else can be the same: no training is spent on it.
            report.first = Difference(what="packed data, sha256", recorded=origin["data"]["sha256"], found=sha256)
            report.causes = _causes_of_data(origin)
        else:
            _train(tree, root, origin, run, say)
            _compare(report, tree, origin, run, store)
        report.kept = str(place)
        if report.identical and not keep:
            shutil.rmtree(place / "tree")
            (place / "ready.json").unlink()
            report.kept = str(place / "report.json")
        write_whole(place / "report.json", f"{json.dumps(asdict(report), indent=2, ensure_ascii=False)}\n".encode())
    return report


def find(root: Path, named: str, store: Lookup) -> Recorded:
    """Return the run that a person names.

    Raises:
        InputError: there is none, or several.
        ServiceError: the store does not answer.
    """
    from trainyard.tracking.run import read_identity

    path = root / "models" / named / "run.json"
    names = [named]
    if path.is_file():
        identity = read_identity(path)
        names = [name for key in ("run_id", "run_key") if (name := identity.get(key))]
    for name in names:
        if (run := store.run(name)) is not None:
            return run
    raise InputError(
        f"{named}: no run in {store.place} has this id, key, fingerprint or name, and no recipe's model is of it; "
        "`trainyard ui` shows the runs there are"
    )


def read_origin(store: Lookup, run: Recorded) -> dict[str, Any]:
    """Return what a training recorded of its origin.

    Raises:
        InputError: it did not, or not enough to be done again.
    """
    content = store.file(run.run_id, f"{FOLDER}/{FILE}")
    if content is None:
        raise InputError(
            f"{run.run_id}: has no {FOLDER}/{FILE}: it is no training, as where a model of elsewhere was only evaluated "
            "here, or was recorded before trainings kept one; train it again with `dvc repro -f`"
        )
    origin: dict[str, Any] = json.loads(content)
    if not origin["code"]["commit"]:
        raise InputError(
            f"{run.run_id}: was recorded without a commit to go back to, outside of a git repository or in one that git "
            "refused; `trainyard doctor` says what to do about git; then train again with `dvc repro -f`"
        )
    return origin


def _train(tree: Tree, root: Path, origin: dict[str, Any], run: Recorded, say: Say) -> None:
    if (weights := named_file(origin["block"], "train")) is not None:
        bring_file(tree, root, weights)
    tree.stage("train")
    if any(name.startswith("test/") for name in run.metrics):
        tree.stage("evaluate")
    say("compares")


def _compare(report: Report, tree: Tree, origin: dict[str, Any], run: Recorded, store: Lookup) -> None:
    from trainyard.tracking.lookup import Lookup

    own = Lookup(f"sqlite:///{tree.folder / 'mlflow.db'}")
    again = find(tree.folder, tree.recipe, own)
    curves = [key for key in run.metrics if key.startswith(("train/", "val/", "learning_rate", "gradient_norm"))]
    curves = [key for key in curves if not key.startswith("train/step_")]
    first = first_of_curves(
        {key: store.curve(run.run_id, key) for key in curves}, {key: own.curve(again.run_id, key) for key in curves}
    )
    report.compared.append(f"{len(curves)} curves by epoch")
    weights = file_sha256(tree.folder / "models" / tree.recipe / "model.safetensors")
    recorded = run.tags.get("weights.sha256")
    if recorded is not None:
        report.compared.append("weights")
        if weights != recorded:
            first = first or Difference(what="weights, sha256", recorded=recorded, found=weights)
    tested = {name: value for name, value in run.metrics.items() if name.startswith(("test/", "best/"))}
    found = {name: value for name, value in again.metrics.items() if name in tested}
    report.compared.append(f"{len(found)} metrics")
    report.first = first or first_of_values(tested, found)
    report.identical = report.first is None and recorded is not None
    if recorded is None:
        report.notes.append("the run did not record the hash of its weights, which can so not be compared")
    if not report.identical:
        report.causes = causes(origin, read_origin(own, again))


def _causes_of_data(origin: dict[str, Any]) -> list[Cause]:
    here = packages()
    found = {**origin, "libraries": here, "machine": machine(), "ray": origin["ray"]}
    listed = [cause for cause in causes(origin, found) if cause.fact in here]
    changed = [
        Cause(name, version, here.get(name, "none"), "the samples depend on it")
        for name, version in origin["data"]["libraries"].items()
        if here.get(name) != version and name not in {cause.fact for cause in listed}
    ]
    raw = Cause("raw data", "other files", f"those at {origin['data']['path']}", "or the code of stage prepare")
    return [*changed, *listed] or [raw]


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)

    def refuse(_: object) -> NoReturn:
        raise MachineError(f"{place}: another process reproduces this run; wait for its end")

    with hold(place / "lock", refuse):
        yield
