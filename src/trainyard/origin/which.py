"""`trainyard which FILE`: the run, the data and the code that a file comes from.

A file is known by its content. DVC's records say which stage wrote it, also long ago, and also where only a copy is left; where
they do not, the file may say it itself. From the stage it is one step to models/<recipe>/run.json, and from there to MLflow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.data.packed import file_sha256
from trainyard.errors import InputError, IntegrityError, TrainyardError
from trainyard.origin.known import Entry, Known, folder_md5
from trainyard.origin.said import said_by
from trainyard.provenance import file_md5

if TYPE_CHECKING:
    from trainyard.tracking.lookup import Lookup, Recorded

OpenStore = Callable[[], "Lookup"]


@dataclass(slots=True, kw_only=True)
class Answer:
    """What is known of a file."""

    path: str
    how: str
    """By what it was found."""
    md5: str
    stage: str = ""
    recipe: str = ""
    wrote: str = ""
    """The path as which its stage wrote it."""
    run: dict[str, Any] = field(default_factory=dict)
    """run_key, run_id, fingerprint; name, status, exit and store where the store was asked."""
    code: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)
    """Of packed data: the runs that were trained on them."""
    notes: list[str] = field(default_factory=list)


def which(root: Path, path: Path, open_store: OpenStore) -> Answer:
    """Say where a file, or a stage's folder, comes from.

    Args:
        root: the project.
        path: of the file, in the project or elsewhere.
        open_store: opens the tracking store; asked only where there is something to ask.

    Raises:
        InputError: there is no such file, or nothing is known of it.
        IntegrityError: a stage wrote it, and it was changed since.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; name one of this project, or a copy of one that a pipeline made")
    known = Known(root)
    full = path.resolve()
    inside = str(full.relative_to(root.resolve())) if full.is_relative_to(root.resolve()) else ""
    md5 = folder_md5(full, root.resolve()) if full.is_dir() else file_md5(full)
    answer = _by_record(known, path, inside, md5) or _by_itself(path, full, md5)
    if answer is None:
        raise _unknown(known, path, inside)
    _ask(answer, open_store, full)
    return answer


def _by_record(known: Known, path: Path, inside: str, md5: str) -> Answer | None:
    """Return what DVC's records say of a content.

    Raises:
        IntegrityError: they name another content for this path.
    """
    found = list(known.made(md5))
    here = [(entry, wrote) for entry, wrote in found if wrote == inside]
    if not found and (place := known.at(inside)):
        entry, out = place
        said = _other_content(known, entry, out, inside)
        if said:
            raise IntegrityError(
                f"{path}: is not what {entry.stage}@{entry.recipe} wrote (md5 {md5}, dvc.lock names {said}): it was changed "
                f"since, so nobody can say where it comes from; put it back: dvc checkout {out}, or make it: dvc repro"
            )
    if not found:
        return None
    entry, wrote = (here or found)[0]
    answer = Answer(path=str(path), how="", md5=md5, stage=entry.stage, recipe=entry.recipe, wrote=wrote)
    copy = "" if wrote == inside else f"a copy of {wrote}, "
    when = "as dvc.lock records it" if entry.current else "as an earlier run of it wrote it"
    answer.how = f"{copy}{when}"
    others = {_identity_md5(other) for other, _ in found} - {_identity_md5(entry), None}
    if others:
        answer.notes.append(f"{len(others)} more run{'s' * (len(others) > 1)} made the same, bit by bit")
    _fill(answer, known, entry)
    return answer


def _other_content(known: Known, entry: Entry, out: str, inside: str) -> str:
    """Return the hash that dvc.lock names for a path; empty where it has none for it."""
    whole = entry.outs()[out]
    return whole if out == inside else known.files_of(whole).get(inside.removeprefix(f"{out}/"), "")


def _fill(answer: Answer, known: Known, entry: Entry) -> None:
    """Take from a stage's entry what it says of run and data."""
    files = {**entry.deps(), **entry.outs()}
    for path, md5 in files.items():
        if path == f"models/{entry.recipe}/run.json" and (content := known.content(path, md5)):
            answer.run = dict(json.loads(content))
        if path == f"data/prepared/{entry.recipe}":
            answer.data = {"packed": path, "md5": md5, **_card(known, path, md5)}
    if entry.stage == "prepare":
        raw = next((path for path in entry.deps() if not path.startswith(("src/", "pipeline/"))), "")
        if raw:
            answer.data |= {"raw": raw, "raw_md5": entry.deps()[raw]}
    changed = [
        path
        for path, md5 in entry.deps().items()
        if path.startswith(("src/", "pipeline/")) and (file := known.root / path).is_file() and file_md5(file) != md5
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        answer.notes.append(f"code of the stage that has changed since: {', '.join(changed[:3])}{more}")


def _card(known: Known, path: str, md5: str) -> dict[str, Any]:
    inner = known.files_of(md5).get("card.json")
    content = known.content(f"{path}/card.json", inner) if inner else None
    if content is None:
        return {}
    card = json.loads(content)
    return {"sha256": card["sha256"], "source": card["source"], "samples": card["samples"]}


def _by_itself(path: Path, full: Path, md5: str) -> Answer | None:
    """Return what a file says of itself, or what its place among MLflow's files does."""
    said = said_by(full) if full.is_file() else {}
    how = "by what the file says of itself; DVC has no record of it"
    if not said and (place := re.search(r"/mlartifacts/[^/]+/([0-9a-f]{32})/artifacts/", str(full))):
        said, how = {"run_id": place[1]}, "a file of the run"
    if not said and full.suffix == ".safetensors":
        said = {"weights_sha256": file_sha256(full)}
    if not said:
        return None
    answer = Answer(path=str(path), how=how, md5=md5)
    answer.run = {key: said[key] for key in ("run_key", "run_id", "fingerprint", "weights_sha256") if key in said}
    if "data_sha256" in said:
        answer.data = {"sha256": said["data_sha256"]}
    return answer


def _ask(answer: Answer, open_store: OpenStore, full: Path) -> None:
    """Ask the tracking store for the run, or for those of packed data."""
    try:
        store = open_store()
        if not answer.run:
            if sha256 := answer.data.get("sha256"):
                answer.users = [f"{run.run_id} ({run.name}, {run.status})" for run in store.tagged("data.sha256", sha256)[:10]]
            return
        run = _find(store, answer.run)
    except TrainyardError as error:
        answer.notes.append(f"the run could not be looked up: {error}")
        return
    if run is None:
        if answer.run.keys() == {"weights_sha256"}:
            raise InputError(
                f"{answer.path}: no stage of this project made it, no run in {store.place} did, and nothing in it names one; "
                "ask in the project that made it, or of the store that has its run (MLFLOW_TRACKING_URI)"
            )
        answer.notes.append(f"{store.place} has no such run: it was recorded elsewhere, or deleted there")
        return
    weights = run.tags.get("weights.sha256")
    if not answer.stage and full.suffix == ".safetensors" and weights and file_sha256(full) != weights:
        raise IntegrityError(
            f"{answer.path}: says that it is of {run.name}, but its bytes are not those that this run wrote: it was changed; "
            f"take that run's own file, or make it again: trainyard reproduce {run.run_id}"
        )
    answer.recipe = answer.recipe or run.tags.get("trainyard.recipe", "")
    exit_state = " ".join(filter(None, (run.tags.get("exit.state"), run.tags.get("exit.reason"))))
    answer.run |= {"run_id": run.run_id, "name": run.name, "status": run.status, "exit": exit_state, "store": store.place}
    answer.run["fingerprint"] = run.tags.get("trainyard.fingerprint", "")
    answer.code = {
        "commit": run.tags.get("mlflow.source.git.commit", ""),
        "dirty": run.tags.get("git.dirty") == "true",
        "patch": run.tags.get("git.patch", "none"),
    }
    if not answer.code["commit"]:
        answer.notes.append("the run names no commit, so it cannot be made again from it")
    answer.data.setdefault("sha256", run.tags.get("data.sha256", ""))
    answer.data.setdefault("raw_md5", run.tags.get("dvc.raw", ""))
    answer.machine = {key.removeprefix("machine."): value for key, value in run.tags.items() if key.startswith("machine.")}
    answer.machine |= {key.removeprefix("version."): value for key, value in run.tags.items() if key.startswith("version.")}
    answer.params = run.params


def _find(store: Lookup, named: dict[str, Any]) -> Recorded | None:
    for key in ("run_id", "run_key"):
        if (value := named.get(key)) and (run := store.run(str(value))):
            return run
    # Several runs of one fingerprint made the same; the newest is the one that is likely to be there.
    if (value := named.get("fingerprint")) and (runs := store.tagged("trainyard.fingerprint", str(value))):
        return runs[0]
    if sha256 := named.get("weights_sha256"):
        return next(iter(store.tagged("weights.sha256", sha256)), None)
    return None


def _identity_md5(entry: Entry) -> str | None:
    """Return the hash of the run.json of a stage's run."""
    path = f"models/{entry.recipe}/run.json"
    return {**entry.deps(), **entry.outs()}.get(path)


def _unknown(known: Known, path: Path, inside: str) -> InputError:
    for entry in known.current:
        if inside in entry.deps():
            kept = f"{inside}.dvc"
            named = kept if (known.root / kept).is_file() else inside
            return InputError(
                f"{path}: no stage made it; it is what {entry.stage}@{entry.recipe} reads. Who made it is for git to say: "
                f"git log -- {named}"
            )
    return InputError(
        f"{path}: no stage of this project made it as it is now, neither as dvc.lock has it nor earlier, and nothing in it "
        "names a run; ask for a file below models/, reports/ or data/prepared/, or for a copy of one"
    )
