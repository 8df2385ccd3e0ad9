"""What DVC knows of the stages that a job is to run: what they read, where that is kept, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from trainyard.errors import InputError, first_line
from trainyard.inputs import NAMED, named_file, read_mapping, value_at
from trainyard.params import nearest

SECRET_OPTIONS = (
    "password",
    "token",
    "session_token",
    "access_key_id",
    "secret_access_key",
    "connection_string",
    "account_key",
    "sas_token",
    "client_secret",
    "oss_key_secret",
    "gdrive_client_secret",
    "bearer_token_command",
)
PLAIN_OPTIONS = ("url", "endpointurl", "region", "use_ssl", "listobjects", "account_name", "projectname", "user", "port")
"""Options of a remote that say where it is; only these go to the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The stages of some targets, and all that they build on."""

    targets: tuple[str, ...]
    stages: frozenset[str]
    """Names in dvc.yaml: the targets and whatever they need."""
    deps: frozenset[str]
    """Paths in the project that these stages read and none of them makes."""
    outs: frozenset[str]
    """Paths in the project that stages make."""
    kept: tuple[str, ...]
    """Those of `stages` that git keeps instead of DVC (`cache: false`)."""
    data: dict[str, str] = field(default_factory=dict)
    """Path of data that these stages read -> the .dvc file that names their content."""
    remote: dict[str, str] | None = None
    """`name` and PLAIN_OPTIONS of DVC's default remote."""


def read_plan(root: Path, targets: tuple[str, ...]) -> Plan:
    """Return what the targets need.

    Raises:
        InputError: there is no such stage, or dvc.yaml or DVC's settings cannot be used.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            wanted = _collect(repo, targets)
            named = _named(root)
            chosen = _closure(root, repo.index.stages, wanted, named)
            return Plan(
                targets=targets,
                stages=frozenset(stage.name for stage in chosen if not stage.is_data_source),
                deps=_deps(root, chosen, named),
                outs=frozenset(
                    path for stage in repo.index.stages if not stage.is_data_source for path in _paths(root, stage.outs)
                ),
                kept=tuple(
                    path
                    for stage in chosen
                    if not stage.is_data_source
                    for path in _paths(root, [out for out in stage.outs if not out.use_cache])
                ),
                data={
                    path: _relative(root, stage.path)
                    for stage in chosen
                    if stage.is_data_source
                    for path in _paths(root, stage.outs)
                },
                remote=_remote(repo),
            )
    except DvcException as error:
        raise InputError(f"dvc: {first_line(error)}; mend that, `dvc repro --dry` shows whether it is") from None


def missing_deps(plan: Plan, root: Path, files: Collection[str]) -> list[str]:
    """Return a line for each path that the stages read and a job would not have."""
    problems = []
    for path in sorted(plan.deps):
        if tracked := [source for other, source in plan.data.items() if _covers(path, other) or _covers(other, path)]:
            problems += [f"  {source}: git ignores it; git add -f {source}" for source in tracked if source not in files]
            continue
        if path in files or any(name.startswith(f"{path}/") for name in files):
            continue
        if (root / path).exists():
            problems.append(f"  {path}: is neither in git nor tracked by DVC, so a job would not have it; dvc add {path}")
        else:
            problems.append(f"  {path}: no such file or folder; `dvc pull` or bring it")
    return problems


def check_remote(plan: Plan) -> None:
    """Raise InputError where a job could neither take the data nor hand back what it makes."""
    if plan.remote is None:
        raise InputError(
            ".dvc/config: names no default remote, so a job could neither take the data nor hand back what it makes; "
            "dvc remote add -d NAME URL, or submit with --shared PATH where the cluster sees this folder"
        )


def _collect(repo: Any, targets: tuple[str, ...]) -> list[Any]:
    """Return the stages by the names that dvc.yaml gives them, `train` being all of `train@...`."""
    stages = {stage.name: stage for stage in repo.index.stages if not stage.is_data_source}
    found = []
    for target in targets:
        chosen = [stage for name, stage in stages.items() if name == target or name.startswith(f"{target}@")]
        if not chosen:
            shown = ", ".join([*stages][:12]) + (", ..." if len(stages) > 12 else "")
            raise InputError(f"dvc.yaml: has no stage '{target}'; it has {shown or 'none'}{nearest(target, stages)}")
        found += chosen
    return found


def _named(root: Path) -> dict[str, str]:
    """Return, by stage, the file in the project that a recipe has it read by its hash, and that dvc.yaml does not list."""
    recipes = value_at(read_mapping(root / "params.yaml"), "recipes")
    found = {}
    for name, recipe in recipes.items() if isinstance(recipes, dict) else ():
        for stage in NAMED:
            path = named_file(recipe, stage)
            if path is not None and not (inside := os.path.normpath(path)).startswith((os.pardir, os.sep)):
                found[f"{stage}@{name}"] = inside
    return found


def _closure(root: Path, stages: Collection[Any], wanted: list[Any], named: Mapping[str, str]) -> list[Any]:
    """Return the wanted stages and those whose outputs they read, .dvc files included."""
    chosen: dict[str, Any] = {}
    waiting = list(wanted)
    while waiting:
        stage = waiting.pop()
        if stage.addressing in chosen:
            continue
        chosen[stage.addressing] = stage
        if stage.is_data_source:
            continue
        reads = [dep.fs_path for dep in stage.deps if dep.protocol == "local"]
        if stage.name in named:
            reads.append(str(root / named[stage.name]))
        for other in stages:
            writes = [out.fs_path for out in other.outs if out.protocol == "local"]
            if any(_covers(read, write) or _covers(write, read) for read in reads for write in writes):
                waiting.append(other)
    return sorted(chosen.values(), key=lambda stage: str(stage.addressing))


def _deps(root: Path, chosen: list[Any], named: Mapping[str, str]) -> frozenset[str]:
    made = [path for stage in chosen if not stage.is_data_source for path in _paths(root, stage.outs)]
    read = {path for stage in chosen if not stage.is_data_source for path in _paths(root, stage.deps)}
    read |= {named[stage.name] for stage in chosen if not stage.is_data_source and stage.name in named}
    return frozenset(path for path in read if not any(_covers(out, path) for out in made))


def _paths(root: Path, items: Collection[Any]) -> list[str]:
    """Return paths within the project, relative to it."""
    local = [Path(item.fs_path) for item in items if item.protocol == "local"]
    return [path.relative_to(root).as_posix() for path in local if path.is_relative_to(root)]


def _relative(root: Path, path: str) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _covers(folder: str, path: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)


def _remote(repo: Any) -> dict[str, str] | None:
    committed = repo.config.load_one("repo").get("remote", {})
    for name, options in committed.items():
        if found := [option for option in SECRET_OPTIONS if option in options]:
            raise InputError(
                f".dvc/config: remote '{name}' has {', '.join(found)}, which would go to the cluster; move it with "
                f"dvc remote modify --local {name} {found[0]} ..., and name a variable with --env instead"
            )
    name = repo.config["core"].get("remote")
    if not name:
        return None
    options = repo.config["remote"].get(name, {})
    if urlsplit(str(options.get("url", ""))).password:
        raise InputError(f"DVC remote '{name}': its url holds a password, which would be shown; use --env for credentials")
    return {"name": name, **{key: str(options[key]) for key in PLAIN_OPTIONS if key in options}}
