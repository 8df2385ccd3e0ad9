from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.head import FakeHead
from trainyard.errors import InputError, IntegrityError, Interrupted, MachineError, ServiceError
from trainyard.jobs.follow import Line, follow, headline
from trainyard.jobs.results import MARK
from trainyard.jobs.server import Job, LostError, Server, choose_address, find_token


class Watch:
    """A line whose clock is turned by its own waiting, and which does something at each wait."""

    def __init__(self, head: FakeHead, *steps: Callable[[], None], patience: float = 60.0) -> None:
        self.said: list[str] = []
        self.shown: list[str] = []
        self.steps = list(steps)
        self.now = 0.0
        self.line = Line(Server(head.url, head.token), self.said.append, patience, self.sleep, lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.steps:
            self.steps.pop(0)()

    def follow(self, *, from_start: bool = True) -> Job:
        return follow(self.line, "job", self.shown.append, from_start=from_start)[0]


def log(head: FakeHead, text: str, status: str = "RUNNING") -> Callable[[], None]:
    def change() -> None:
        with head.lock:
            head.logs["job"] += text
            head.jobs["job"]["status"] = status

    return change


def test_each_line_of_a_growing_log_is_shown_once_and_whole(head: FakeHead) -> None:
    head.add("job", "RUNNING", "2026-01-01 10:00:00,000\tINFO job_manager.py:568 -- Runtime env is setting up.\none\ntw")
    watch = Watch(head, log(head, "o\nthree\n"), log(head, ""), log(head, f"{MARK}abc\nlast", "SUCCEEDED"))
    assert watch.follow().state == "SUCCEEDED"
    assert watch.shown == ["one", "two", "three", "last"]


def test_a_lost_connection_is_told_of_and_comes_back_without_a_line_lost_or_shown_twice(head: FakeHead) -> None:
    head.add("job", "RUNNING", "one\n")
    faults: list[str | int] = ["ok", "cut", "cut", 500, "ok", "half", "ok", 503]
    head.faults.extend(faults)
    grow = [log(head, f"line {number}\n") for number in range(9)]
    watch = Watch(head, *grow, log(head, "end\n", "SUCCEEDED"))
    assert watch.follow().state == "SUCCEEDED"
    assert head.logs["job"].splitlines() == watch.shown
    assert not head.faults
    assert "trying again for 60 s, jobs go on meanwhile" in watch.said[0]
    assert "answers again" in watch.said[1]


def test_patience_ends_and_the_job_can_be_rejoined(head: FakeHead) -> None:
    head.add("job", "RUNNING", "one\n")
    head.faults.extend(["ok", "ok", *["cut"] * 50])
    watch = Watch(head, patience=60.0)
    with pytest.raises(Interrupted, match=r"does not answer .*for 60 s"):
        watch.follow()
    assert watch.shown == ["one"]
    assert 60.0 <= watch.now <= 62.0


def test_a_cluster_started_anew_knows_the_job_no_more(head: FakeHead) -> None:
    head.add("job", "RUNNING", "one\n")
    watch = Watch(head, lambda: head.jobs.clear())
    with pytest.raises(Interrupted, match="no longer knows job, so the cluster was started anew"):
        watch.follow()


def test_a_log_that_cannot_be_read_for_a_moment_is_not_shown_anew(head: FakeHead) -> None:
    head.add("job", "RUNNING", "one\ntwo\n")

    def vanish() -> None:
        head.logs["job"] = ""

    def return_with_more() -> None:
        head.logs["job"] = "one\ntwo\nthree\n"
        head.jobs["job"]["status"] = "SUCCEEDED"

    watch = Watch(head, vanish, return_with_more)
    watch.follow()
    assert watch.shown == ["one", "two", "three"]


def test_who_rejoins_sees_the_last_lines_and_how_many_came_before(head: FakeHead) -> None:
    head.add("job", "SUCCEEDED", "".join(f"line {number}\n" for number in range(1, 101)))
    watch = Watch(head)
    watch.follow(from_start=False)
    assert watch.shown == ["... 80 earlier lines", *(f"line {number}" for number in range(81, 101))]


def test_waiting_for_the_cluster_is_said_once(head: FakeHead) -> None:
    head.add("job", "PENDING")
    watch = Watch(head, log(head, ""), log(head, "one\n", "SUCCEEDED"))
    watch.follow()
    assert watch.said == ["job: waits for the cluster to begin it; Ctrl-C leaves it there"]


def test_the_headline_is_the_stage_s_own() -> None:
    text = "\ncnn · train · ERROR: disk full; make room\nERROR: failed to reproduce 'train@cnn': exited with 3\n"
    assert headline(Job(id="a", state="FAILED"), text) == "disk full; make room"
    assert headline(Job(id="a", state="FAILED", message="one\nthe node died\n"), "") == "the node died"


def test_a_head_that_is_down_is_a_service_away() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServiceError, match=r"does not answer \(Connection refused\); start the cluster, or mend --address"):
            Server(url).check()


def test_a_head_that_takes_a_connection_and_says_nothing_is_not_waited_for_forever() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server = Server(f"http://127.0.0.1:{silent.getsockname()[1]}", read_seconds=0.2)
        with pytest.raises(LostError, match="does not answer in time"):
            server.jobs()


@pytest.mark.parametrize("answer", [404, 302])
def test_another_program_at_the_address_is_no_ray_head(head: FakeHead, answer: int) -> None:
    head.faults.append(answer)
    with pytest.raises(InputError, match="answers, but is no Ray head"):
        Server(head.url).check()


def test_an_older_ray_is_refused_and_a_newer_one_is_not(head: FakeHead) -> None:
    head.ray_version = "2.9.3"
    with pytest.raises(ServiceError, match=r"runs Ray 2\.9\.3, this project needs 2\."):
        Server(head.url).check()
    head.ray_version = "99.0.1"
    assert Server(head.url).check() == "99.0.1"
    head.ray_version = None
    with pytest.raises(InputError, match="is no Ray head"):
        Server(head.url).check()


def test_a_missing_and_a_wrong_token_are_told_apart_and_not_shown(head: FakeHead) -> None:
    head.token = "right"
    with pytest.raises(InputError, match="wants a token; set RAY_AUTH_MODE=token"):
        Server(head.url).check()
    with pytest.raises(InputError, match="refuses the token") as error:
        Server(head.url, "CANARY").check()
    assert "CANARY" not in str(error.value)
    assert Server(head.url, "right").check() == head.ray_version


def test_a_token_goes_only_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("mine\n")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert find_token() is None
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert find_token() == "mine"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(MachineError, match="none: the cluster's token cannot be read"):
        find_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert find_token() == "given"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert find_token() is None


def test_code_is_sent_to_no_cluster_on_a_network_that_anybody_may_use(head: FakeHead) -> None:
    with pytest.raises(IntegrityError, match=r"http://192\.0\.2\.1:8265: is on a network and asks for no token"):
        Server("http://192.0.2.1:8265").refuse_open()
    Server("http://192.0.2.1:8265", "token").refuse_open()
    Server(head.url).refuse_open()


def test_the_address_is_the_nearest_one_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="no address of a cluster; give --address"):
        choose_address(None, None)
    assert choose_address(None, "http://setting:8265/") == "http://setting:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert choose_address(None, "setting:8265") == "http://setting:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://variable:8265")
    assert choose_address(None, "http://setting:8265") == "http://variable:8265"
    assert choose_address("https://option", "http://setting:8265") == "https://option"


@pytest.mark.parametrize("address", ["ray://head:10001", "http://", "http://head:99999999", "http://me:CANARY@head:8265"])
def test_an_address_that_cannot_be_one_is_the_user_s(address: str) -> None:
    with pytest.raises(InputError, match="address"):
        choose_address(address, None)
