from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.head import FakeHead
from tests.jobs.test_results import MADE
from tests.narrow import narrow
from trainyard.errors import InputError, IntegrityError, Interrupted, MachineError, ServiceError, TrainyardError
from trainyard.jobs.follow import Line
from trainyard.jobs.pack import identity, project_files, project_id
from trainyard.jobs.plan import read_plan
from trainyard.jobs.results import Results, read_lock, to_lines
from trainyard.jobs.seal import PAD, unseal
from trainyard.jobs.server import Job, Server
from trainyard.jobs.spec import VARIABLE, JobSpec, job_id
from trainyard.jobs.submit import Options, attach, failure, stop, submit, table
from trainyard.training.elastic import RAY_JOB

WAIT_SECONDS = 120.0
DONE = "".join(f"{line}\n" for line in to_lines(Results(stages={"make": MADE}, base={}, files={"report.json": b"{}"})))


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS} s for {what}"
        time.sleep(0.05)


@pytest.fixture
def brought(small: Path) -> Path:
    """The small project without the data that would have to be pushed first."""
    (small / "raw.dvc").unlink()
    (small / ".gitignore").write_text("/made.txt\n/told.txt\n")
    return small


def name(root: Path, attempt: int = 1) -> str:
    return job_id(identity(root, project_files(root)[0], read_plan(root, ("make",))), attempt)


class Client:
    """`trainyard submit make` in this process; its first wait ends the job as `ends` says."""

    def __init__(self, head: FakeHead, ends: Callable[[], None] | None = None) -> None:
        self.said: list[str] = []
        self.shown: list[str] = []
        self.ends = ends
        self.line = Line(Server(head.url), self.said.append, 60.0, self.sleep)

    def sleep(self, seconds: float) -> None:
        time.sleep(0.01)
        if self.ends is not None:
            self.ends()

    def submit(self, root: Path, **options: object) -> None:
        submit(root, ("make",), self.line, Options(**options), self.shown.append)  # type: ignore[arg-type]


def ending(head: FakeHead, status: str, log: str = "", exit_code: int | None = None) -> Callable[[], None]:
    """End every job that runs."""

    def end() -> None:
        with head.lock:
            for job, values in head.jobs.items():
                if values["status"] in ("PENDING", "RUNNING"):
                    head.logs[job] += log
                    values.update(status=status, driver_exit_code=exit_code)

    return end


def test_a_job_is_sent_and_its_results_come_home(head: FakeHead, brought: Path) -> None:
    client = Client(head, ending(head, "SUCCEEDED", f"made it\n{DONE}", 0))
    client.submit(brought)
    assert client.shown == ["made it"]
    assert read_lock(brought / "dvc.lock") == {"make": MADE}
    assert (brought / "report.json").read_bytes() == b"{}"
    request = head.jobs[name(brought)]
    assert request["entrypoint"] == "exec python -m trainyard.jobs.driver"
    assert request["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "30"
    assert set(head.packages) == {request["runtime_env"]["working_dir"].removeprefix("gcs://")}
    spec = JobSpec.from_environment(request["runtime_env"]["env_vars"])
    assert (spec.targets, spec.stages, spec.kept, spec.attempt) == (("make",), ("make",), ("report.json",), 1)
    assert spec.commit and len(spec.commit) == 40 and spec.dirty
    assert client.said[-1].endswith("dvc.lock has its results (make); `dvc pull -d make` brings the files")


def test_the_same_command_again_takes_the_results_and_runs_nothing(head: FakeHead, brought: Path) -> None:
    Client(head, ending(head, "SUCCEEDED", DONE, 0)).submit(brought)
    (brought / "report.json").unlink()
    again = Client(head)
    again.submit(brought)
    assert len(head.jobs) == 1
    assert (brought / "report.json").read_bytes() == b"{}"
    assert again.said[0].endswith("did this already; taking its results")
    Client(head, ending(head, "SUCCEEDED", DONE, 0)).submit(brought, again=True)
    assert sorted(head.jobs) == [name(brought, 1), name(brought, 2)]


def test_a_job_at_work_is_joined_and_not_started_twice(head: FakeHead, brought: Path) -> None:
    head.add(name(brought), "RUNNING", "one\n")
    client = Client(head, ending(head, "SUCCEEDED", DONE, 0))
    client.submit(brought)
    assert client.said[0].endswith("is at work on this already; joining it")
    assert not head.asked("POST", "/api/jobs/")


def test_two_submits_at_the_same_moment_make_one_job(head: FakeHead, brought: Path) -> None:
    both = threading.Barrier(2, timeout=WAIT_SECONDS)
    answer = head.answer

    def meet(method: str, path: str, body: bytes) -> tuple[int, object]:
        # Both have found no job before either sends one.
        if (method, path) == ("POST", "/api/jobs/"):
            both.wait()
        return answer(method, path, body)

    head.answer = meet  # type: ignore[method-assign]
    ended = ending(head, "SUCCEEDED", DONE, 0)
    errors: list[BaseException] = []

    def run(client: Client) -> None:
        try:
            client.submit(brought)
        except BaseException as error:
            errors.append(error)

    clients = [Client(head, ended), Client(head, ended)]
    threads = [threading.Thread(target=run, args=(client,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert not errors
    assert list(head.jobs) == [name(brought)]
    assert head.asked("POST", "/api/jobs/") == 2
    said = sorted(text.split(": ", 1)[1] for client in clients for text in client.said if ": sent" in text or "moment" in text)
    assert said == [f"sent to {head.url}", "was sent at the same moment by another command; joining it"]


def test_an_answer_lost_on_its_way_starts_no_second_job(head: FakeHead, brought: Path) -> None:
    answer = head.answer

    def lose(method: str, path: str, body: bytes) -> tuple[int, object]:
        found = answer(method, path, body)
        if (method, path) == ("POST", "/api/jobs/") and found[0] == 200:
            return 502, "a proxy's words"
        return found

    head.answer = lose  # type: ignore[method-assign]

    def end() -> None:
        if head.asked("POST", "/api/jobs/") == 2:
            ending(head, "SUCCEEDED", DONE, 0)()

    client = Client(head, end)
    client.submit(brought)
    assert list(head.jobs) == [name(brought)]
    assert head.asked("POST", "/api/jobs/") == 2


@pytest.mark.parametrize(
    ("state", "words"), [("FAILED", "failed: disk full; starting attempt 2"), ("STOPPED", "was stopped; starting")]
)
def test_what_failed_or_was_stopped_is_started_anew_and_said(head: FakeHead, brought: Path, state: str, words: str) -> None:
    head.add(name(brought), state, message="the log:\nmake · ERROR: disk full")
    client = Client(head, ending(head, "SUCCEEDED", DONE, 0))
    client.submit(brought)
    assert words in client.said[0]
    assert head.jobs[name(brought, 2)]["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("code", "error"),
    [(2, InputError), (3, MachineError), (4, ServiceError), (5, IntegrityError), (75, Interrupted), (1, TrainyardError)],
)
def test_the_exit_code_of_the_stage_inside_is_passed_on(
    head: FakeHead, brought: Path, code: int, error: type[TrainyardError]
) -> None:
    client = Client(head, ending(head, "FAILED", "\ncnn · train · ERROR: no room; make some\n", code))
    with pytest.raises(error, match=r"trainyard-\w{16}-1: no room; make some") as raised:
        client.submit(brought)
    assert raised.value.exit_code == code


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        (127, "/bin/sh: 1: python: not found", "cannot run it .*python: not found.; put `python` into the PATH"),
        (
            1,
            "Traceback\nModuleNotFoundError: No module named 'dvc'",
            "lacks a library .*'dvc'.; install requirements.lock there",
        ),
    ],
)
def test_a_cluster_without_the_programs_is_the_machine(code: int, message: str, words: str) -> None:
    found = failure(Job(id="job", state="FAILED", exit_code=code, message=message), "")
    assert isinstance(found, MachineError)
    assert re.search(words, str(found)), found


@pytest.mark.parametrize("code", [None, -9, 137, 143])
def test_a_job_that_died_with_its_node_can_be_continued(head: FakeHead, brought: Path, code: int | None) -> None:
    client = Client(head, ending(head, "FAILED", exit_code=code))
    with pytest.raises(Interrupted, match=r"was killed, or lost with its node .*the same command continues it"):
        client.submit(brought)


def test_a_stopped_job_ends_the_command_that_waits_for_it(head: FakeHead, brought: Path) -> None:
    client = Client(head, ending(head, "STOPPED"))
    with pytest.raises(Interrupted, match="was stopped; submit the same again to continue"):
        client.submit(brought)


def test_secrets_are_sent_by_name_and_readable_in_no_part_alone(
    head: FakeHead, brought: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_KEY", "CANARY-7")
    monkeypatch.setenv("OTHER_KEY", "CANARY-8")
    client = Client(head, ending(head, "SUCCEEDED", DONE, 0))
    client.submit(brought, secrets=("STORE_KEY",))
    request = head.jobs[name(brought)]
    everything = json.dumps(request) + "".join(map(str, head.packages.values())) + "".join(client.said + client.shown)
    assert "CANARY" not in everything
    inside = {**request["runtime_env"]["env_vars"], RAY_JOB: json.dumps({"metadata": request["metadata"]})}
    assert unseal(inside) == {"STORE_KEY": "CANARY-7"}
    assert JobSpec.from_environment(inside).masked == ("STORE_KEY",)
    assert "STORE_KEY" not in request["runtime_env"]["env_vars"] and PAD in request["metadata"]
    with pytest.raises(InputError, match=r"--env STORE_KEY=\.\.\.: a value would be seen") as error:
        client.submit(brought, secrets=("STORE_KEY=CANARY-7",))
    assert "CANARY" not in str(error.value)
    with pytest.raises(InputError, match="--env NOT_THERE: not set here"):
        client.submit(brought, secrets=("NOT_THERE",))


def test_nothing_is_sent_while_something_is_wrong(head: FakeHead, small: Path) -> None:
    client = Client(head)
    (small / "raw.dvc").unlink()
    with pytest.raises(InputError, match=r"(?s)1 path\(s\) that the stages read would be missing.*\n  raw: is neither in git"):
        client.submit(small)
    (small / ".dvc" / "config").write_text("")
    with pytest.raises(InputError, match="names no default remote"):
        client.submit(small)
    with pytest.raises(InputError, match="has no stage 'mike'"):
        submit(small, ("mike",), client.line, Options(), client.shown.append)
    assert not head.requests


def test_data_are_brought_to_the_remote_first(head: FakeHead, small: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "raw"], cwd=small, check=True)
    client = Client(head, ending(head, "SUCCEEDED", DONE, 0))
    client.submit(small)
    assert len([path for path in (small.parent / "store").rglob("*") if path.is_file()]) == 1
    (small.parent / "store").rename(small.parent / "gone")
    (small.parent / "store").write_text("no folder")
    (small / "params.yaml").write_text("size: 5\n")
    with pytest.raises(ServiceError, match=r"dvc push: .*then the same command again"):
        client.submit(small)


def test_a_shared_folder_needs_no_remote(head: FakeHead, brought: Path) -> None:
    (brought / ".dvc" / "config").write_text("")
    client = Client(head, ending(head, "SUCCEEDED", DONE, 0))
    client.submit(brought, shared="/mnt/project")
    assert client.said[-1].endswith("`dvc checkout -d make` brings the files")
    spec = json.loads(head.jobs[name(brought)]["runtime_env"]["env_vars"][VARIABLE])
    assert (spec["shared"], spec["remote"]) == ("/mnt/project", None)


def test_a_job_can_be_rejoined_by_its_name_in_its_own_project_only(head: FakeHead, brought: Path, tmp_path: Path) -> None:
    head.add("job", "RUNNING", metadata={"trainyard.targets": "make", "trainyard.project": project_id(brought)})
    head.add("theirs", "RUNNING", metadata={"trainyard.targets": "make", "trainyard.project": "other-1234"})
    client = Client(head, ending(head, "SUCCEEDED", DONE, 0))
    (brought / "params.yaml").write_text("size: 9\n")
    attach(brought, "job", client.line, client.shown.append)
    assert read_lock(brought / "dvc.lock") == {"make": MADE}
    with pytest.raises(InputError, match="theirs: is a job of other-1234"):
        attach(brought, "theirs", client.line, client.shown.append)
    with pytest.raises(InputError, match="none: is no job at"):
        attach(brought, "none", client.line, client.shown.append)


def test_a_job_is_stopped_with_a_notice(head: FakeHead) -> None:
    head.add("job", "RUNNING")
    client = Client(head)
    stop("job", client.line)
    assert client.said == [
        "job: told to end; it has 30 s to write a checkpoint, and is waited for",
        "job: stopped; submit the same again to continue",
    ]
    stop("job", client.line)
    assert client.said[-1] == "job: has ended already (STOPPED)"
    assert head.asked("POST", "/api/jobs/job/stop") == 1


def test_jobs_are_listed_oldest_first_and_only_ours(head: FakeHead) -> None:
    head.add("second", "RUNNING", start_time=2000)
    head.add("first", "FAILED", start_time=1000)
    head.add("raysubmit_x", "RUNNING", metadata={})
    lines = narrow(table(Server(head.url).jobs()))
    assert lines[0].split() == ["ID", "TARGETS", "STATE", "SINCE", "WHO"]
    assert [line.split()[0] for line in lines[2:]] == ["first", "second"]
    assert lines[3].split()[1:3] == ["make", "RUNNING"] and lines[3].endswith("ada@desk")
    head.add("trainyard-0123456789abcdef-12", "RUNNING")
    lines = narrow(table(Server(head.url).jobs()), "  WHO      ada@desk")
    assert ["first", "FAILED"] in [line.split() for line in lines]


def command(root: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainyard.cli", *arguments],
        cwd=root,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_ctrl_c_leaves_the_job_at_work_and_says_how_to_rejoin_it(head: FakeHead, brought: Path) -> None:
    (brought / "params.yaml").unlink()
    (brought / "dvc.yaml").write_text(
        "stages:\n  make:\n    cmd: python code/make.py\n    deps: [code/make.py]\n    outs: [made.txt]\n"
    )
    client = command(brought, "submit", "make", "--address", head.url)
    try:
        wait_for(lambda: any(path.endswith("/logs") for _, path in head.requests), "the first look at the log")
        os.killpg(client.pid, signal.SIGINT)
        out, errors = client.communicate(timeout=WAIT_SECONDS)
    finally:
        client.kill()
    assert client.returncode == 75, errors
    job = name(brought)
    assert f"detached from {job}, which goes on; the same command again, or trainyard attach {job} --address" in errors
    assert "Traceback" not in errors
    assert head.jobs[job]["status"] == "RUNNING"
    ending(head, "SUCCEEDED", DONE, 0)()
    again = command(brought, "submit", "make", "--address", head.url)
    out, errors = again.communicate(timeout=WAIT_SECONDS)
    assert again.returncode == 0, out + errors
    assert list(head.jobs) == [job]


def test_commands_end_with_one_headline_and_its_code(head: FakeHead, tmp_path: Path) -> None:
    head.token = "right"
    listing = command(tmp_path, "jobs", "--address", head.url, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="wrong")
    _, errors = listing.communicate(timeout=WAIT_SECONDS)
    assert listing.returncode == 2
    assert errors.startswith(f"ERROR: {head.url}: refuses the token") and errors.count("\n") == 1
