"""Jobs on a real Ray head of their own, from a project beside it, through a remote that is a folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import Project, make_project
from trainyard.errors import TrainyardError
from trainyard.jobs.server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.pipeline, pytest.mark.timeout(1500)]
WAIT_SECONDS = 400.0
MARK = "TRAINYARD_JOBS_TEST"
SLOW = """\
import time
from pathlib import Path

from trainyard.errors import Interrupted, MachineError
from trainyard.progress import say
from trainyard.provenance import scratch_root
from trainyard.stage import run_stage

GATE = Path("{gate}")


def work(clock):
    checkpoint = scratch_root() / ".trainyard" / "step"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    say("slow", "train", f"begins after step {{step}}")
    try:
        while not GATE.exists():
            step += 1
            time.sleep(0.1)
    except Interrupted:
        # Longer than Ray's own 3 s between its notice and the end.
        time.sleep(6)
        checkpoint.write_text(str(step))
        raise
    if GATE.read_text() == "full":
        raise MachineError("no room on this disk; make some")
    Path("slow.txt").write_text("made")
    return f"ends after step {{step}}"


run_stage("slow", "train", work)
"""


class Cluster:
    """A Ray head: its job server's address, its home folder, its logs."""

    def __init__(self, url: str, home: Path, temporary: Path) -> None:
        self.url = url
        self.home = home
        self.temporary = temporary


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s for {what}"
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        return bool(Server(url).check())
    except TrainyardError:
        return False


def end_processes(mark: str) -> None:
    """End what carries the mark in its environment, by pid: nobody else's Ray."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == mark and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:
                continue
        if not found:
            return
        for process in found:
            try:
                process.kill()
            except psutil.Error:
                continue
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("home")
    project_environment = Project(home).environment
    temporary = Path(tempfile.mkdtemp(prefix="tyj-"))
    try:
        for attempt in range(3):
            url = start(project_environment, home, temporary / str(attempt))
            if url is not None:
                break
            end_processes(str(home))
        assert url is not None, (temporary / "2.log").read_text()
        yield Cluster(url, home, temporary)
    finally:
        end_processes(str(home))
        shutil.rmtree(temporary, ignore_errors=True)


def start(environment: dict[str, str], home: Path, temporary: Path) -> str | None:
    """Start a head on ports that were free a moment ago; None where it ended, because one no longer was."""
    port = free_port()
    command = ["ray", "start", "--head", "--block", "--port=0", f"--ray-client-server-port={free_port()}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--dashboard-agent-listen-port=0"]
    command += ["--metrics-export-port=0", f"--temp-dir={temporary}", "--num-cpus=2", "--num-gpus=0"]
    command += ["--object-store-memory=83886080", "--disable-usage-stats"]
    inside = {**environment, "HOME": str(home), MARK: str(home), "RAY_AUTH_MODE": "disabled"}
    program = shutil.which("ray", path=environment["PATH"])
    assert program
    with temporary.with_suffix(".log").open("wb") as log:
        started = subprocess.Popen(
            [program, *command[1:]], env=inside, cwd=home, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(url) or started.poll() is not None, "the head")
    return url if started.poll() is None else None


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a stage that lasts as long as one wants, beside those of the recipes."""
    folder = tmp_path_factory.mktemp("project")
    made = make_project(root, folder)
    store = tmp_path_factory.mktemp("store")
    made.run("dvc", "remote", "add", "-q", "-d", "store", str(store))
    (folder / "slow.py").write_text(SLOW.format(gate=folder / "gate"))
    with (folder / ".gitignore").open("a") as file:
        file.write("/gate\n/*.log\n")
    with (folder / "dvc.yaml").open("a") as file:
        file.write("\n  slow:\n    cmd: PYTHONPATH=src python slow.py\n    deps: [slow.py]\n    outs: [slow.txt]\n")
    made.run("git", "add", ".")
    made.run("git", "commit", "-q", "-m", "slow")
    made.environment["PYTHONPATH"] = str(root / "src")
    return made


class Submit:
    """A `trainyard` command under way."""

    def __init__(self, project: Project, log: str, *arguments: str) -> None:
        self.path = project.folder / log
        with self.path.open("wb") as file:
            self.process = subprocess.Popen(
                project.command("python", "-m", "trainyard.cli", *arguments),
                cwd=project.folder,
                env=project.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def wrote(self, text: str) -> bool:
        return text in self.path.read_text()

    def wait(self, text: str) -> None:
        wait_for(lambda: self.wrote(text) or self.process.poll() is not None, repr(text))
        assert self.wrote(text), self.path.read_text()

    def code(self) -> int:
        try:
            return self.process.wait(timeout=WAIT_SECONDS)
        finally:
            self.process.kill()


def trainyard(project: Project, cluster: Cluster, *arguments: str, code: int = 0) -> str:
    return project.run("python", "-m", "trainyard.cli", *arguments, "--address", cluster.url, code=code)


def test_a_training_on_a_cluster_comes_home(cluster: Cluster, project: Project) -> None:
    project.environment["STORE_KEY"] = "CANARY-4711"
    project.change("dropout: 0.2", "dropout: 0.1")
    commit = project.run("git", "rev-parse", "HEAD").strip()
    output = Submit(project, "train.log", "submit", "train@cnn", "--address", cluster.url, "--env", "STORE_KEY")
    assert output.code() == 0, output.path.read_text()
    assert output.wrote("cnn · train · epoch 6/6")
    assert output.wrote("dvc.lock has its results (prepare@cnn, train@cnn); `dvc pull -d train@cnn` brings the files")
    assert not (project.folder / "models" / "cnn" / "model.safetensors").exists()
    project.run("dvc", "pull", "-d", "train@cnn")
    assert (project.folder / "models" / "cnn" / "model.safetensors").stat().st_size > 1000
    assert "up to date" in project.run("dvc", "status", "prepare@cnn", "train@cnn")
    assert not project.stages_run(project.run("dvc", "repro", "train@cnn"))

    with sqlite3.connect(next(cluster.home.glob(".trainyard/jobs/*/mlflow.db"))) as runs:
        tags = dict(runs.execute("select key, value from tags"))
    runs.close()
    assert (tags["mlflow.source.git.commit"], tags["git.dirty"]) == (commit, "true")

    again = trainyard(project, cluster, "submit", "train@cnn")
    assert "did this already; taking its results" in again
    assert trainyard(project, cluster, "jobs").count("train@cnn") == 1
    written = b"".join(path.read_bytes() for path in cluster.temporary.rglob("*.log") if path.is_file())
    assert b"TRAINYARD_SEALED" in written
    assert b"CANARY-4711" not in written
    assert not output.wrote("CANARY-4711")


def test_a_job_is_left_stopped_continued_and_joined(cluster: Cluster, project: Project) -> None:
    gate = project.folder / "gate"
    first = Submit(project, "first.log", "submit", "slow", "--address", cluster.url)
    try:
        first.wait("slow · train · begins after step 0")
        os.killpg(first.process.pid, signal.SIGINT)
        assert first.code() == 75, first.path.read_text()
        assert first.wrote("which goes on; the same command again, or trainyard attach ")
        job = next(line for line in trainyard(project, cluster, "jobs").splitlines() if " slow " in line)
        assert " RUNNING " in job
        assert "stopped; submit the same again" in trainyard(project, cluster, "stop", job.split()[0])

        second = Submit(project, "second.log", "submit", "slow", "--address", cluster.url)
        second.wait("slow · train · begins after step ")
        assert second.wrote("was stopped; starting attempt 2, which continues")
        assert not second.wrote("begins after step 0\n"), second.path.read_text()
        third = Submit(project, "third.log", "submit", "slow", "--address", cluster.url)
        third.wait("is at work on this already; joining it")
    finally:
        gate.write_text("open")
    assert (second.code(), third.code()) == (0, 0), second.path.read_text() + third.path.read_text()
    states = [line.split()[2] for line in trainyard(project, cluster, "jobs").splitlines() if " slow " in line]
    assert states == ["STOPPED", "SUCCEEDED"]
    project.run("dvc", "pull", "slow")
    assert "up to date" in project.run("dvc", "status", "slow")


@pytest.mark.long
def test_the_stage_s_exit_code_and_headline_come_home(cluster: Cluster, project: Project) -> None:
    (project.folder / "gate").write_text("full")
    with (project.folder / "slow.py").open("a") as file:
        file.write("# other work\n")
    output = trainyard(project, cluster, "submit", "slow", code=3)
    assert output.splitlines()[-1].endswith("-1: no room on this disk; make some")
    assert "Traceback" not in output
    (project.folder / "gate").write_text("open")
    assert "failed: no room on this disk; make some; starting attempt 2" in trainyard(project, cluster, "submit", "slow")
