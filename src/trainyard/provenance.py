"""Where a result comes from: the git commit, and the hashes that DVC recorded."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def scratch_root() -> Path:
    """Return the project's own folder, also from the temporary copy that `dvc exp run --temp` works in."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def git_tags(folder: Path) -> dict[str, str]:
    """Return the commit that is checked out, and whether files differ from it; nothing outside a git repository.

    A job on a cluster has the files without their history, and is told what its submitter has checked out.
    """
    if given := os.environ.get("TRAINYARD_GIT_COMMIT"):
        return {"mlflow.source.git.commit": given, "git.dirty": os.environ.get("TRAINYARD_GIT_DIRTY", "true")}
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    return {"mlflow.source.git.commit": commit, "git.dirty": str(dirty).lower()}


def dvc_tags(lock_path: Path, recipe: str) -> dict[str, str]:
    """Return the hashes of a recipe's outputs in dvc.lock, and the stage and experiment that run now."""
    tags = {
        name: value
        for name, variable in (("dvc.stage", "DVC_STAGE"), ("dvc.exp_name", "DVC_EXP_NAME"))
        if (value := os.environ.get(variable))
    }
    for stage, entry in _stages(lock_path).items():
        verb, _, name = stage.partition("@")
        if name == recipe:
            for out in entry.get("outs", []):
                if md5 := out.get("md5"):
                    tags[f"dvc.{verb}.{Path(out['path']).name}"] = md5
    return tags


def _stages(lock_path: Path) -> dict[str, Any]:
    try:
        values = YAML(typ="safe", pure=True).load(lock_path)
    except (OSError, YAMLError):
        # Written by DVC while it runs; a run without these tags is better than none.
        return {}
    return dict((values or {}).get("stages", {}))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
