"""Two drivers that train one state in one place: there, elsewhere, dead, and at once."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.s3 import S3Server

from trainyard.errors import MachineError, ServiceError
from trainyard.training import lease
from trainyard.training.lease import FILE, Holder, Lease, TakenOver, held
from trainyard.training.store import FolderStore, Store, open_store, put

PATIENCE = 120.0
HOLD = """
import os, sys
from trainyard.training.lease import held
from trainyard.training.store import open_store
with held(open_store(sys.argv[1]), print):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have drivers speak and look a hundred times as often."""
    for name in ("RENEW_SECONDS", "LEASE_POLL_SECONDS", "SETTLE_SECONDS"):
        monkeypatch.setattr(lease, name, 0.02)


@contextmanager
def another(place: str, folder: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    """A driver in a process of its own that holds a place until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, place],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def elsewhere(**changes: Any) -> Holder:
    """A driver on a machine whose processes cannot be seen from here."""
    return dataclasses.replace(Holder.of_this_process(), host="far", pid=7, machine="another", **changes)


def note(store: Store, holder: Holder) -> None:
    put(store, FILE, json.dumps(dataclasses.asdict(holder)).encode())


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def lost(own: Lease) -> bool:
    try:
        own.check()
    except TakenOver:
        return True
    return False


@pytest.fixture(params=["folder", pytest.param("objects", marks=pytest.mark.faults)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where checkpoints are: a folder, or an object store."""
    if request.param == "folder":
        yield str(tmp_path / "place")
        return
    server: S3Server = request.getfixturevalue("server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    # Its own for each test.
    yield f"s3://bucket/{tmp_path.name}/place"


def test_a_second_driver_is_refused_at_once_and_told_who_holds_the_place(place: str, tmp_path: Path, root: Path) -> None:
    with another(place, tmp_path, root) as first:
        said = rf"place: process {first.pid} on {os.uname().nodename} \(in {tmp_path}, since 2.*\) trains this very state there"
        with pytest.raises(MachineError, match=said), held(open_store(place), pytest.fail):
            pass
        # One that is stopped may go on at any time.
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(MachineError, match=said), held(open_store(place), pytest.fail):
            pass
        first.send_signal(signal.SIGCONT)
        # Its end gives the place back.
        first.communicate("")
    assert open_store(place).names() == []
    with held(open_store(place), pytest.fail) as own:
        own.check()


def test_a_driver_of_this_machine_that_was_killed_is_followed_at_once(
    place: str, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with another(place, tmp_path, root) as first:
        first.kill()
        first.wait()
        assert open_store(place).names() == [FILE]
        with held(open_store(place), pytest.fail) as own:
            own.check()


def test_a_number_that_another_process_has_by_now_does_not_hold_the_place(tmp_path: Path) -> None:
    parent = dataclasses.replace(Holder.of_this_process(), pid=os.getppid(), started="1")
    note(FolderStore(tmp_path), parent)
    with held(FolderStore(tmp_path), pytest.fail) as own:
        own.check()


def test_a_driver_elsewhere_is_believed_when_it_renews_its_note(tmp_path: Path) -> None:
    store, waits = FolderStore(tmp_path), threading.Event()

    def renew() -> None:
        waits.wait(PATIENCE)
        note(store, elsewhere(mark="far", since="noon", renewed=1))

    note(store, elsewhere(mark="far", since="noon"))
    told: list[str] = []
    thread = threading.Thread(target=renew)
    thread.start()

    def say(text: str) -> None:
        told.append(text)
        waits.set()

    said = r"process 7 on far \(in .*, since noon\) trains this very state there"
    with pytest.raises(MachineError, match=said), held(store, say):
        pass
    thread.join()
    (line,) = told
    assert "is held by process 7 on far" in line and "waits at most 60 s for a word of it" in line


def test_a_driver_elsewhere_of_which_nothing_is_heard_is_followed(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.2)
    store = open_store(place)
    note(store, elsewhere())
    with held(store, lambda _: None) as own:
        own.check()
        assert json.loads(store.read(FILE))["mark"] == own.own.mark


def test_a_driver_that_was_given_up_hears_of_it_and_leaves_the_others_note(place: str) -> None:
    store = open_store(place)
    with held(store, pytest.fail) as own:
        wait_for(lambda: own.own.renewed > 1, "a renewal")
        note(store, elsewhere(mark="far"))
        # A renewal that was under way may have written over it, once.
        wait_for(lambda: lost(own) or note(store, elsewhere(mark="far")), "word of the other driver")
        with pytest.raises(TakenOver, match=r"process 7 on far .* has taken over.*this one ends and writes nothing more"):
            own.check()
    assert json.loads(store.read(FILE))["mark"] == "far"


class Met:
    """A store in which two drivers have both looked before either writes."""

    def __init__(self, store: Store, both: threading.Barrier) -> None:
        self.store = store
        self.both = both
        self.looked = False

    def read(self, name: str) -> bytes:
        try:
            return self.store.read(name)
        finally:
            if not self.looked:
                self.looked = True
                self.both.wait(PATIENCE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.mark.parametrize("near", [True, False])
def test_of_two_drivers_that_begin_at_once_one_remains(tmp_path: Path, near: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    if near:
        # The first look of each waits for that of the other.
        read, looked = FolderStore.read, set[int]()

        def met(self: FolderStore, name: str) -> bytes:
            try:
                return read(self, name)
            finally:
                if id(self) not in looked:
                    looked.add(id(self))
                    both.wait(PATIENCE)

        monkeypatch.setattr(FolderStore, "read", met)
    stores: list[Any] = [FolderStore(tmp_path) if near else Met(FolderStore(tmp_path), both) for _ in range(2)]
    leases = [Lease(store) for store in stores]
    refused: list[Lease] = []

    def take(own: Lease) -> None:
        try:
            own.take(pytest.fail)
        except MachineError:
            refused.append(own)

    threads = [threading.Thread(target=take, args=(own,)) for own in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    wait_for(lambda: sum(own in refused or lost(own) for own in leases) == 1, "one of them to hear of the other")
    (winner,) = [own for own in leases if own not in refused and not lost(own)]
    seen = winner.own.renewed
    wait_for(lambda: winner.own.renewed > seen + 2, "renewals")
    winner.check()
    for own in leases:
        if own not in refused:
            own.release()
    assert stores[0].names() == []


def test_a_store_that_is_away_for_a_while_takes_nothing_from_its_holder(tmp_path: Path) -> None:
    class Away(FolderStore):
        asked, away = 0, False

        def read(self, name: str) -> bytes:
            if self.away:
                self.asked += 1
                raise ServiceError("away")
            return super().read(name)

    store = Away(tmp_path)
    with held(store, pytest.fail) as own:
        store.away = True
        wait_for(lambda: store.asked > 3, "asking")
        own.check()
        store.away = False
        seen = own.own.renewed
        wait_for(lambda: own.own.renewed > seen + 1, "a renewal")
        own.check()


def test_a_torn_note_holds_nobody_back(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"mark": ')
    with held(FolderStore(tmp_path), pytest.fail) as own:
        own.check()
