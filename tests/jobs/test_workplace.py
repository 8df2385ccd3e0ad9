from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import time
from pathlib import Path

import pytest

from trainyard.errors import ServiceError
from trainyard.jobs.pack import LINKS
from trainyard.jobs.spec import JobSpec
from trainyard.jobs.workplace import OLD_SECONDS, configure, environment, make_project, tidy
from trainyard.provenance import git_tags
from trainyard.training.workers import handed_on


def test_a_working_copy_has_links_again_and_what_an_earlier_attempt_did(small: Path, tmp_path: Path) -> None:
    (small / LINKS).write_text(json.dumps({"deep/again.py": "../code/make.py"}))
    work = tmp_path / "work"
    work.mkdir()
    (work / "half").touch()  # of an attempt that was killed while it copied
    make_project(small, work)
    assert (work / "deep" / "again.py").read_text() == (small / "code" / "make.py").read_text()
    assert not (work / LINKS).exists() and not (work / "half").exists()
    (work / "dvc.lock").write_text("done: already")
    make_project(small, work)
    assert (work / "dvc.lock").read_text() == "done: already"


def test_working_copies_that_nobody_came_back_to_are_deleted(tmp_path: Path) -> None:
    for name in ("mine", "old", "held", "young"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.lock").touch()
        if name != "young":
            os.utime(tmp_path / f"{name}.lock", (time.time() - OLD_SECONDS - 60,) * 2)
    with (tmp_path / "held.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        tidy(tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["held", "mine", "young"]


def test_dvc_is_told_where_cache_and_remote_are_and_needs_no_git(small: Path, spec: JobSpec, tmp_path: Path) -> None:
    from dvc.repo import Repo

    work = tmp_path / "work"
    make_project(small, work)
    configure(work, spec, tmp_path / "place")
    with Repo(str(work)) as repo:
        assert repo.cache.local.path == str(tmp_path / "place" / "cache" / "files" / "md5")
        assert repo.config["core"]["remote"] == "store"
        assert repo.config["core"]["no_scm"]
        assert repo.config["remote"]["store"]["url"] == str(tmp_path / "store")


def test_a_shared_cache_is_found_or_missed_with_a_word(small: Path, spec: JobSpec, tmp_path: Path) -> None:
    work, mounted = tmp_path / "work", tmp_path / "mnt"
    make_project(small, work)

    def cache_in_use() -> str:
        configure(work, dataclasses.replace(spec, remote=None, shared=str(mounted)), tmp_path / "place")
        return re.findall(r"dir = (.*)", (work / ".dvc" / "config.local").read_text())[0]

    with pytest.raises(ServiceError, match="holds no DVC cache on the cluster's head"):
        cache_in_use()
    # A project in which nothing was made so far.
    (mounted / ".dvc").mkdir(parents=True)
    assert cache_in_use() == str(mounted / ".dvc" / "cache")
    # One that keeps its cache elsewhere.
    (mounted / ".dvc" / "config").write_text("[cache]\n    dir = ../../large\n")
    assert Path(cache_in_use()).resolve() == tmp_path / "large"
    # A cache without its project.
    (mounted / ".dvc").rename(tmp_path / "gone")
    (mounted / "files" / "md5").mkdir(parents=True)
    assert cache_in_use() == str(mounted)


def test_provenance_is_the_submitter_s(spec: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = environment(dataclasses.replace(spec, masked=("STORE_KEY", "UNSET")), tmp_path, {"PATH": "/bin"})
    assert values["DVC_ROOT"] == str(tmp_path)
    assert handed_on({**values, "STORE_KEY": "key"}) == {"STORE_KEY": "key"}
    for key in ("TRAINYARD_GIT_COMMIT", "TRAINYARD_GIT_DIRTY"):
        monkeypatch.setenv(key, values[key])
    assert git_tags(tmp_path) == {"mlflow.source.git.commit": "f" * 40, "git.dirty": "true"}
