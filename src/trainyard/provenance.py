"""Where a result comes from: the git commit, and the hashes that DVC recorded."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

STAGES = ("prepare", "train", "evaluate", "gate", "export")
"""In their order."""
MADE = ("dvc.lock", "reports")
"""What stages and DVC write among the files that git keeps: it is no part of what made a run."""
GIT_SECONDS = 30.0


PARENT_VARIABLE = "TRAINYARD_PARENT_RUN"
"""Environment: the key of the run that those of this process belong to."""


def scratch_root() -> Path:
    """Return the project's own folder, also from the temporary copy that `dvc exp run --temp` works in."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def git_tags(folder: Path) -> dict[str, str]:
    """Return the commit that is checked out, and whether files differ from it but for those that stages write.

    A job on a cluster has the files without their history, and is told what its submitter has checked out. The temporary copy
    of `dvc exp run` has commits of its own, which go with it, and is told which of the project's it began with.
    """
    if given := os.environ.get("TRAINYARD_GIT_COMMIT"):
        return {"mlflow.source.git.commit": given, "git.dirty": os.environ.get("TRAINYARD_GIT_DIRTY", "true")}
    commit = commit_of(folder)
    if commit is None:
        return {}
    differing = git(folder, "diff", "--name-only", commit, "--", *of_a_person())
    return {"mlflow.source.git.commit": commit, "git.dirty": str(bool(differing)).lower()}


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder's files are to be held against, which lasts; None outside a repository."""
    named = os.environ.get("DVC_EXP_BASELINE_REV") if os.environ.get("DVC_STAGE") else None
    for name in filter(None, (named, "HEAD")):
        if (answer := git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")) is not None:
            return answer.decode().strip()
    return None


def code_root(folder: Path) -> Path:
    """Return where the code lies that runs in a folder: there, or, for a study's folder that only shows it, in the project."""
    return folder if (folder / "dvc.yaml").is_file() else scratch_root()


def of_a_person() -> list[str]:
    """Return how git is told to look at what people write in the project alone."""
    return [".", *(f":(exclude){name}" for name in MADE)]


def git(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> bytes | None:
    """Return what git answers, None where it cannot."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, check=False, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def ownership(folder: Path) -> str | None:
    """Return the command after which git answers again in a repository that belongs to another user; None where it does."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--git-dir"], cwd=folder, capture_output=True, text=True, check=False, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"git config --global --add safe\.directory .+", done.stderr)
    return found[0] if done.returncode and found else None


def dvc_tags(lock_path: Path, recipe: str, stage: str, made: Iterable[Path] = ()) -> dict[str, str]:
    """Return the hashes by which DVC knows what a stage's result is made of, and the stage and experiment that run now.

    Those of later stages in dvc.lock are of what was there before.

    Args:
        lock_path: of dvc.lock.
        recipe: whose stage it is.
        stage: that runs now.
        made: files that it has written, which DVC records after its end.
    """
    tags = {
        name: value
        for name, variable in (("dvc.stage", "DVC_STAGE"), ("dvc.exp_name", "DVC_EXP_NAME"))
        if (value := os.environ.get(variable))
    }
    for verb, entry in upstream(lock_path, recipe, stage).items():
        for out in entry.get("outs", []):
            if md5 := out.get("md5"):
                tags[f"dvc.{verb}.{Path(out['path']).name}"] = md5
    tags |= {f"dvc.{stage}.{path.name}": file_md5(path) for path in made if path.is_file()}
    return tags


def upstream(lock_path: Path, recipe: str, stage: str) -> dict[str, Any]:
    """Return the entries in dvc.lock of the stages before one, by their verbs, as far as they are of what is there now."""
    entries = _stages(lock_path)
    found = {}
    for verb in STAGES[: STAGES.index(stage)]:
        entry = entries.get(f"{verb}@{recipe}")
        if entry is not None and not any(_is_other(lock_path.parent / out["path"], out) for out in entry.get("outs", [])):
            found[verb] = entry
    return found


def file_md5(path: Path) -> str:
    """Return the hash by which DVC knows a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _is_other(path: Path, out: dict[str, Any]) -> bool:
    """Say whether a small file is not the one that DVC recorded; of folders and large files that is not looked at."""
    if not path.is_file() or path.suffix != ".json" or "md5" not in out:
        return False
    return file_md5(path) != str(out["md5"])


def _stages(lock_path: Path) -> dict[str, Any]:
    try:
        values = YAML(typ="safe", pure=True).load(lock_path)
    except (OSError, YAMLError):
        # Written by DVC while it runs; a run without these tags is better than none.
        return {}
    return dict((values or {}).get("stages", {}))
