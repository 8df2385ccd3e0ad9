"""What a training says of its own origin: enough for a person to judge it, and for `trainyard reproduce` to do it again.

origin/origin.json        parameters, data, code, machine, libraries, DVC's hashes, Ray's names, and the attempts it took
origin/uncommitted.patch  how the files differed from the commit, where they did
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from trainyard.data.packed import Card
from trainyard.files import write_whole
from trainyard.inputs import read_mapping
from trainyard.masking import mask
from trainyard.origin.changes import NONE, changes
from trainyard.progress import say
from trainyard.provenance import code_root, commit_of, dvc_tags, git, git_tags, ownership, upstream
from trainyard.recipe import Recipe

FOLDER, FILE, PATCH = "origin", "origin.json", "uncommitted.patch"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a training runs, which changes no result beyond the rounding of sums."""

    workers: int
    """At most; 0 in the driver's own process."""
    cpus_per_worker: int
    address: str
    """Of Ray: local, or a cluster's."""
    run_name: str
    """Of Ray's run."""


def write_origin(
    folder: Path, recipe: Recipe, mark: str, card: Card, placed: Placed, project: Path
) -> tuple[list[Path], dict[str, str]]:
    """Write what a training is made from; return the files, and the tags that say it in short.

    Args:
        folder: of the training, where an earlier attempt may have left its own.
        recipe: that is trained.
        mark: its fingerprint.
        card: of the packed data.
        placed: where it runs.
        project: the folder with params.yaml, dvc.lock and the code.

    Raises:
        OSError: the disk is full.
    """
    path, patch_path = folder / FILE, folder / PATCH
    lock = project / "dvc.lock"
    before = upstream(lock, recipe.name, "train")
    tags = {**git_tags(code_root(project)), **dvc_tags(lock, recipe.name, "train"), **_dep_tags(before, recipe)}
    if "mlflow.source.git.commit" not in tags and (command := ownership(code_root(project))) is not None:
        say(recipe.name, "train", f"warning: git refuses a project of another user, so no commit is recorded; {command}")
    code, files = _code(code_root(project), patch_path, tags)
    attempt = {
        "at": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "host": platform.node(),
        "pid": os.getpid(),
        "workers": placed.workers,
        "commit": code["commit"],
    }
    attempts = [*_attempts(path), attempt]
    facts, libraries = machine(), packages()
    values = {
        "format": FORMAT,
        "fingerprint": mark,
        "recipe": recipe.name,
        "block": _block(project, recipe),
        "command": [Path(sys.executable).name, *sys.orig_argv[1:]],
        "data": {
            "sha256": card.sha256,
            "source": card.source,
            "samples": card.samples,
            "path": recipe.data.path,
            "libraries": card.libraries,
        },
        "code": code,
        "dvc": {"stage": os.environ.get("DVC_STAGE"), "exp_name": os.environ.get("DVC_EXP_NAME"), "lock": before},
        "ray": asdict(placed),
        "machine": facts,
        "libraries": libraries,
        "attempts": attempts,
    }
    write_whole(path, f"{mask(json.dumps(values, indent=2, ensure_ascii=False, default=str))}\n".encode())
    named = ("torch", "pytorch-lightning", "ray", "numpy", "mlflow", "dvc")
    tags |= {
        **{f"machine.{key}": str(value) for key, value in facts.items()},
        **{f"version.{name}": libraries[name] for name in named if name in libraries},
        "data.sha256": card.sha256,
        "ray.run_name": placed.run_name,
        "ray.address": placed.address,
        "workers": str(placed.workers),
        "attempts": str(len(attempts)),
        "git.patch": "none" if patch_path not in files else "whole" if code["whole"] else "in part",
    }
    return [path, *files], tags


def stage_tags(project: Path, recipe: str, stage: str, made: list[Path]) -> dict[str, str]:
    """Return what ties the result of a later stage to its run: DVC's hashes, and the code that made it."""
    own = {name.replace("mlflow.source.git.", "git."): value for name, value in git_tags(code_root(project)).items()}
    told = dvc_tags(project / "dvc.lock", recipe, stage, made)
    return {**told, **{name.replace("git.", f"git.{stage}."): value for name, value in own.items()}}


def machine() -> dict[str, str]:
    """Return the facts about this machine on which the bits of a result may depend, and its size."""
    import psutil

    from trainyard.training.hardware import describe, has_native_bf16

    facts = {name.removeprefix("machine."): value for name, value in describe().items()}
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return {
        **facts,
        "host": platform.node(),
        "processor": found[1].strip() if found else platform.processor() or platform.machine(),
        "native_bf16": str(has_native_bf16()).lower(),
        "memory_gb": f"{psutil.virtual_memory().total / 1e9:.1f}",
    }


def packages() -> dict[str, str]:
    """Return the version of every installed library, by the names of their folders: to read all of them would take a second."""
    found = {}
    for place in distributions():
        # importlib reads a file for `metadata`, and none for the path.
        name, _, version = getattr(place, "_path", Path()).name.removesuffix(".dist-info").partition("-")
        if version:
            found[name.replace("_", "-").lower()] = version
    return dict(sorted(found.items()))


def _code(project: Path, patch_path: Path, tags: Mapping[str, str]) -> tuple[dict[str, Any], list[Path]]:
    commit = tags.get("mlflow.source.git.commit")
    patch_path.unlink(missing_ok=True)
    given = bool(os.environ.get("TRAINYARD_GIT_COMMIT"))
    found = NONE if commit is None or given else changes(project, commit_of(project) or commit)
    code = {
        "commit": commit,
        "dirty": tags.get("git.dirty") == "true",
        # A job's files came without their history, so nobody can say here what differs.
        "whole": commit is not None and found.whole and not (given and tags.get("git.dirty") == "true"),
        "left_out": list(found.left_out),
        "patch_sha256": None,
        "prefix": (git(project, "rev-parse", "--show-prefix") or b"").decode().strip() if commit and not given else "",
    }
    if not found.text and found.whole:
        return code, []
    content = found.as_file()
    write_whole(patch_path, content)
    return {**code, "patch_sha256": hashlib.sha256(content).hexdigest()}, [patch_path]


def _attempts(path: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["attempts"])
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _block(project: Path, recipe: Recipe) -> Any:
    """Return the recipe as params.yaml has it: DVC compares it with what it has recorded, word by word."""
    blocks = read_mapping(project / "params.yaml").get("recipes") or {}
    return blocks.get(recipe.name, recipe.to_json())


def _dep_tags(before: Mapping[str, Any], recipe: Recipe) -> dict[str, str]:
    """Return the hash of the raw data."""
    deps = before.get("prepare", {}).get("deps", [])
    hashes = [dep["md5"] for dep in deps if dep.get("path") == recipe.data.path and "md5" in dep]
    return {"dvc.raw": hashes[0]} if hashes else {}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
