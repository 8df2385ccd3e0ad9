"""Where a job works on the cluster's head: its own copy of the project, with DVC set up for this machine."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import ServiceError
from trainyard.file_lock import held_if_free
from trainyard.jobs.pack import LINKS
from trainyard.jobs.spec import JobSpec

WHOLE = ".trainyard-whole"
"""In a working copy: it was copied to its end."""
OLD_SECONDS = 14 * 24 * 3600.0
"""After so long without an attempt, the working copy of a piece of work is deleted; its checkpoints are not."""


def make_project(submitted: Path, work: Path) -> None:
    """Make a working copy of what was submitted, unless an earlier attempt left one, with what it had done."""
    if (work / WHOLE).exists():
        return
    shutil.rmtree(work, ignore_errors=True)
    # Without the copied files' modes: Ray's own copy may be read-only.
    shutil.copytree(submitted, work, ignore=shutil.ignore_patterns(".trainyard", "__pycache__"), copy_function=shutil.copy)
    links = work / LINKS
    if links.is_file():
        for name, target in json.loads(links.read_text(encoding="utf-8")).items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).symlink_to(target)
        links.unlink()
    (work / WHOLE).touch()


def tidy(work: Path) -> None:
    """Delete the working copies beside `work` that failed attempts left, and nobody came back to."""
    for other in work.parent.iterdir():
        if other.is_dir() and other != work and time.time() - other.with_suffix(".lock").stat().st_mtime > OLD_SECONDS:
            with held_if_free(other.with_suffix(".lock")) as free:
                if free:
                    shutil.rmtree(other, ignore_errors=True)


def configure(work: Path, job_spec: JobSpec, place: Path) -> None:
    """Write DVC's settings of this machine: where the cache and the remote are; credentials come from the environment.

    Raises:
        ServiceError: there is no cache where the submitter said that one is shared.
    """
    from dvc.config import Config

    cache = _shared_cache(Path(job_spec.shared)) if job_spec.shared else place / "cache"
    settings = Config(str(work / ".dvc"), validate=False)
    with settings.edit("local") as local:
        # The commit and its history stayed with the submitter.
        local.setdefault("core", {})["no_scm"] = True
        local.setdefault("cache", {})["dir"] = str(cache)
        if job_spec.remote is not None:
            options = dict(job_spec.remote)
            name = options.pop("name")
            local["core"]["remote"] = name
            local.setdefault("remote", {})[name] = options


def environment(job_spec: JobSpec, place: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of dvc and of the stages."""
    values = dict(inherited)
    # Checkpoints and, without a tracking server, the record of runs stay here when the working copy goes.
    values["DVC_ROOT"] = str(place)
    values["DVC_NO_ANALYTICS"] = "1"
    values["TRAINYARD_HANDED_ON"] = ",".join(job_spec.masked)
    values["TRAINYARD_GIT_COMMIT"] = job_spec.commit or ""
    values["TRAINYARD_GIT_DIRTY"] = str(job_spec.dirty).lower()
    values["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), values.get("PATH", os.defpath)])
    return values


def _shared_cache(shared: Path) -> Path:
    """Return the cache of the project in a folder, which may not be there yet, or the cache that the folder is."""
    from dvc.config import Config

    if (shared / ".dvc").is_dir():
        return Path(Config(str(shared / ".dvc"))["cache"].get("dir") or shared / ".dvc" / "cache")
    if (shared / "files" / "md5").is_dir():
        return shared
    raise ServiceError(f"--shared {shared}: holds no DVC cache on the cluster's head; mount the project there, or use a remote")
