"""The stages of a project as DVC counts them: those of recipes, those that somebody added, and files under `dvc add`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from trainyard.dvc_lock import read_lock
from trainyard.dvc_settings import settings
from trainyard.errors import InputError

DO_WITHOUT = "dvc config core.no_scm true"
"""What has DVC work in a project without git."""
NEEDS_GIT = f"put the project under git (git init, git add, git commit), or do without it: {DO_WITHOUT}"


def without_git(root: Path) -> bool:
    """Return whether DVC is told to do without git in a project."""
    return bool(settings(root)["core"].get("no_scm"))


def has_repository(root: Path) -> bool:
    """Return whether a folder lies in a repository of git, whatever git says of it."""
    return any((folder / ".git").exists() for folder in (root, *root.resolve().parents))


def needed(root: Path, targets: Sequence[str]) -> list[str]:
    """Return the stages that `dvc repro` looks at for some targets, or for none at all of them, each after what it needs.

    Raises:
        InputError: there is no such stage, DVC's settings cannot be read, or it refuses the project.
        IntegrityError: dvc.lock is damaged.
    """
    with _opened(root) as repo:
        stages = {stage for target in (*targets,) or (None,) for stage in repo.stage.collect(target, with_deps=True)}
        return [str(stage.addressing) for stage in _in_order(repo.index.graph) if stage in stages]


def needs(root: Path) -> dict[str, set[str]]:
    """Return what each stage of a project needs, near and far.

    Raises:
        InputError: DVC's settings cannot be read, or it refuses the project.
        IntegrityError: dvc.lock is damaged.
    """
    found: dict[str, set[str]] = {}
    with _opened(root) as repo:
        graph = repo.index.graph
        for stage in _in_order(graph):
            near = {str(other.addressing) for other in graph.successors(stage)}
            found[str(stage.addressing)] = near.union(*(found[name] for name in near))
    return found


def _in_order(graph: Any) -> list[Any]:
    """Return the stages of DVC's graph, whose edges lead from each to those that it needs, after those."""
    # DVC collects a set, whose order is another one in each process.
    return list(TopologicalSorter({stage: graph.successors(stage) for stage in graph}).static_order())


@contextmanager
def _opened(root: Path) -> Iterator[Any]:
    """Open a project, and say what DVC refuses of it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    read_lock(root)
    settings(root)
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise refusal(line, "`dvc stage list` shows the stages") from None


def refusal(line: str, fix: str) -> InputError:
    """Return what DVC says of a project as an error with what to do about it, `fix` where nothing better is known."""
    return InputError(f"dvc: {line}; {NEEDS_GIT if 'is not a git repository' in line else fix}")
