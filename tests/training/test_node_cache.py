from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.s3 import S3Server

from trainyard.data.packed import hashes, read_card, verify, write_card
from trainyard.errors import IntegrityError, MachineError, ServiceError
from trainyard.recipe import Recipe
from trainyard.training import node_cache, store
from trainyard.training.job import FitJob
from trainyard.training.node_data import data_here, publish

MakeJob = Callable[..., FitJob]
Told = Callable[[], object]
SECONDS = 120.0


def quiet() -> None:
    """Hear nothing of what comes."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINYARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def make_job(make_recipe: Callable[..., Recipe], digits_copy: Path, tmp_path: Path, cache: Path) -> MakeJob:
    """A job whose data lie in the storage, as a node sees it that does not see the project's folder."""

    def make(storage: str | None = None, classes: tuple[str, ...] | None = None, **changes: object) -> FitJob:
        folder = digits_copy
        if classes is not None:
            # Other data, by their hash.
            folder = Path(shutil.copytree(digits_copy, tmp_path / "-".join(classes)))
            write_card(folder, dataclasses.replace(read_card(folder), sha256="-".join(classes)))
        (tmp_path / "storage").mkdir(exist_ok=True)
        job = FitJob(
            recipe=make_recipe(),
            data_dir=folder,
            data_sha256=read_card(folder).sha256,
            scratch_dir=tmp_path / "scratch",
            fingerprint="f",
            storage=storage or str(tmp_path / "storage"),
            **changes,  # type: ignore[arg-type]
        )
        publish(job)
        return dataclasses.replace(job, data_dir=tmp_path / "not-mounted")

    return make


def test_data_that_the_node_sees_are_used_where_they_are(make_job: MakeJob, digits_copy: Path, cache: Path) -> None:
    job = dataclasses.replace(make_job(), data_dir=digits_copy)
    with data_here(job, quiet) as folder:
        assert folder == digits_copy
    assert not cache.exists()


def test_data_that_the_node_does_not_see_are_fetched_once(make_job: MakeJob, tmp_path: Path, cache: Path) -> None:
    job = make_job()
    with data_here(job, quiet) as folder:
        assert folder == cache / str(job.data_sha256)
        verify(folder, read_card(folder))
    # The storage is not asked again.
    shutil.rmtree(tmp_path / "storage")
    with data_here(job, quiet) as folder:
        verify(folder, read_card(folder))


def test_data_are_fetched_from_an_object_store(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.make_bucket("bucket")
        with data_here(make_job("s3://bucket/trainyard"), quiet) as folder:
            verify(folder, read_card(folder))


def test_other_data_at_the_path_are_not_used(make_job: MakeJob, digits_copy: Path, cache: Path) -> None:
    job = dataclasses.replace(make_job(classes=("other",)), data_dir=digits_copy)
    with data_here(job, quiet) as folder:
        assert folder == cache / "other"


def test_without_a_storage_the_node_and_the_path_are_named(make_job: MakeJob) -> None:
    job = dataclasses.replace(make_job(), storage=None)
    said = rf"{os.uname().nodename}: {job.data_dir} is not there.* set cluster.storage"
    with pytest.raises(MachineError, match=said), data_here(job, quiet):
        pass


def test_damaged_data_in_the_storage_are_refused_and_not_kept(make_job: MakeJob, tmp_path: Path, cache: Path) -> None:
    job = make_job()
    place = tmp_path / "storage" / "data" / str(job.data_sha256)
    name = next(iter(hashes(read_card(place))))
    content = bytearray((place / name).read_bytes())
    content[-1] ^= 1
    (place / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{place / name}: is not what it should be"), data_here(job, quiet):
        pass
    assert not (cache / str(job.data_sha256)).exists()


def test_data_that_were_never_put_there_are_missed(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job()
    shutil.rmtree(tmp_path / "storage" / "data")
    with pytest.raises(ServiceError, match="holds no data with this hash"), data_here(job, quiet):
        pass


def test_a_fetch_that_was_cut_short_goes_on_with_what_is_whole(
    make_job: MakeJob, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    fetched: list[str] = []
    fetch = store.FolderStore.fetch

    def cut(self: store.FolderStore, name: str, path: Path, told: Told) -> str:
        if len(fetched) == 2:
            path.write_bytes(b"half")
            raise ServiceError("the store is gone")
        fetched.append(name)
        return fetch(self, name, path, told)

    monkeypatch.setattr(store.FolderStore, "fetch", cut)
    with pytest.raises(ServiceError), data_here(job, quiet):
        pass
    assert not (cache / str(job.data_sha256)).exists()
    first = list(fetched)

    def watched(self: store.FolderStore, name: str, path: Path, told: Told) -> str:
        fetched.append(name)
        return fetch(self, name, path, told)

    monkeypatch.setattr(store.FolderStore, "fetch", watched)
    with data_here(job, quiet) as folder:
        card = read_card(folder)
        verify(folder, card)
    assert sorted(fetched) == sorted(hashes(card))
    assert fetched[:2] == first


def test_processes_of_a_node_fetch_once_between_them(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    fetched: list[str] = []
    fetch = store.FolderStore.fetch

    def watched(self: store.FolderStore, name: str, path: Path, told: Told) -> str:
        fetched.append(name)
        return fetch(self, name, path, told)

    monkeypatch.setattr(store.FolderStore, "fetch", watched)
    folders: list[Path] = []

    def use() -> None:
        with data_here(job, quiet) as folder:
            folders.append(folder)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(folders) == 4
    assert len(fetched) == len(hashes(read_card(folders[0])))


def test_the_least_recently_used_data_make_room(make_job: MakeJob, cache: Path) -> None:
    one, two, three = (make_job(classes=(name,)) for name in ("one", "two", "three"))
    with data_here(one, quiet) as folder:
        size = sum(path.stat().st_size for path in folder.rglob("*.*") if path.is_file())
    with data_here(two, quiet):
        pass
    for age, name in ((30, "two"), (10, "one")):
        os.utime(cache / f"{name}.lock", (1e9 - age, 1e9 - age))
    limit = 2.5 * size / 1e9
    with data_here(dataclasses.replace(three, data_cache_gigabytes=limit), quiet):
        assert sorted(path.name for path in cache.iterdir() if path.is_dir()) == ["one", "three"]


def test_data_in_use_stay_and_what_does_not_fit_is_said(make_job: MakeJob, cache: Path) -> None:
    one, two = make_job(classes=("one",)), make_job(classes=("two",))
    with data_here(one, quiet) as folder:
        size = sum(path.stat().st_size for path in folder.rglob("*.*") if path.is_file())
        small = dataclasses.replace(two, data_cache_gigabytes=1.5 * size / 1e9)
        with pytest.raises(MachineError, match=r"are in use; raise cluster.data_cache_gigabytes"), data_here(small, quiet):
            pass
        verify(folder, read_card(folder))
    with data_here(small, quiet):
        assert not folder.exists()


def test_of_four_fetches_at_once_as_many_go_on_as_there_is_room_for(
    make_job: MakeJob, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [make_job(classes=(name,)) for name in ("one", "two", "three", "four")]
    with data_here(jobs[0], quiet) as folder:
        size = sum(path.stat().st_size for path in folder.rglob("*.*") if path.is_file())
    shutil.rmtree(cache)
    limit = 2.5 * size
    fetch, begun, refused, all_looked = store.FolderStore.fetch, set[str](), list[str](), threading.Event()

    def late(self: store.FolderStore, name: str, path: Path, told: Told) -> str:
        begun.add(self.address)
        # Nothing has come of any of them before the last one has looked for room.
        assert all_looked.wait(SECONDS)
        return fetch(self, name, path, told)

    monkeypatch.setattr(store.FolderStore, "fetch", late)
    inside = threading.Semaphore(0)
    over = threading.Event()

    def use(job: FitJob) -> None:
        try:
            with data_here(dataclasses.replace(job, data_cache_gigabytes=limit / 1e9), quiet):
                inside.release()
                over.wait(SECONDS)
        except MachineError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=use, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS
    while len(begun) + len(refused) < len(jobs):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    all_looked.set()
    assert len(begun) == len(refused) == 2
    assert all("are in use; raise cluster.data_cache_gigabytes" in line for line in refused)
    for _ in begun:
        assert inside.acquire(timeout=SECONDS)
    assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) <= limit
    over.set()
    for thread in threads:
        thread.join(SECONDS)


@pytest.mark.faults
def test_a_process_that_is_killed_while_it_fetches_leaves_nothing_half_used(
    make_job: MakeJob, tmp_path: Path, cache: Path, root: Path
) -> None:
    job = make_job()
    code = f"""
import dataclasses, os, pathlib, signal
from trainyard.training import node_data, store
from trainyard.training.job import FitJob
fetch, fetched = store.FolderStore.fetch, []
def cut(self, name, path, told):
    if len(fetched) == 1:
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    fetched.append(name)
    return fetch(self, name, path, told)
store.FolderStore.fetch = cut
job = FitJob(recipe=None, data_dir=pathlib.Path("/nowhere"), data_sha256={job.data_sha256!r}, scratch_dir=pathlib.Path("/x"),
             fingerprint="f", storage={job.storage!r})
with node_data.data_here(job, print):
    pass
"""
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert not (cache / str(job.data_sha256)).exists()
    with data_here(job, quiet) as folder:
        verify(folder, read_card(folder))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRAINYARD_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert node_cache.cache_folder() == tmp_path / "trainyard" / "data"
