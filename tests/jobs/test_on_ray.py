"""Jobs on a real Ray head of their own, from a project beside it, through a remote that is a folder."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import Project, make_project
from tests.ray_head import WAIT_SECONDS, Cluster, running, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.pipeline, pytest.mark.timeout(1500)]
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
            checkpoint.with_suffix(".new").write_text(str(step))
            checkpoint.with_suffix(".new").replace(checkpoint)
            time.sleep(0.1)
    except Interrupted:
        # Longer than Ray's own 3 s between its notice and the end.
        time.sleep(6)
        checkpoint.write_text(str(step + {noticed}))
        raise
    if GATE.read_text() == "full":
        raise MachineError("no room on this disk; make some")
    Path("slow.txt").write_text("made")
    return f"ends after step {{step}}"


run_stage("slow", "train", work)
"""


NOTICED = 1_000_000
"""Added to the step by a stage that had the time to heed the notice."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture(scope="module")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a stage that lasts as long as one wants, beside those of the recipes."""
    folder = tmp_path_factory.mktemp("project")
    made = make_project(root, folder)
    store = tmp_path_factory.mktemp("store")
    made.run("dvc", "remote", "add", "-q", "-d", "store", str(store))
    (folder / "slow.py").write_text(SLOW.format(gate=folder / "gate", noticed=NOTICED))
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


def test_a_training_in_a_shared_folder_needs_no_remote_and_uses_its_cache(cluster: Cluster, root: Path, tmp_path: Path) -> None:
    # In which nothing was made so far.
    project = make_project(root, tmp_path)
    (tmp_path / ".git" / "info" / "exclude").write_text("*.log\n")
    project.environment["PYTHONPATH"] = str(root / "src")
    output = Submit(project, "shared.log", "submit", "train@cnn", "--address", cluster.url, "--shared", str(tmp_path))
    assert output.code() == 0, output.path.read_text()
    assert output.wrote("cnn · train · epoch 6/6")
    assert output.wrote("dvc.lock has its results (prepare@cnn, train@cnn); `dvc checkout -d train@cnn` brings the files")
    model = tmp_path / "models" / "cnn" / "model.safetensors"
    assert not model.exists()
    project.run("dvc", "checkout", "-d", "train@cnn")
    assert model.stat().st_size > 1000
    assert "up to date" in project.run("dvc", "status", "prepare@cnn", "train@cnn")
    assert not project.stages_run(project.run("dvc", "repro", "train@cnn"))
    again = trainyard(project, cluster, "submit", "train@cnn", "--shared", str(tmp_path))
    assert "did this already; taking its results" in again


def test_a_job_is_left_stopped_continued_and_joined(cluster: Cluster, project: Project) -> None:
    # A line for each job, however long its name.
    project.environment["COLUMNS"] = "200"
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
        begun = re.search(r"begins after step (\d+)", second.path.read_text())
        assert begun and int(begun.group(1)) > NOTICED, second.path.read_text()
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


@pytest.mark.long
@pytest.mark.faults
def test_a_killed_job_s_training_goes_on_from_its_checkpoint_on_the_cluster_s_workers(
    cluster: Cluster, project: Project
) -> None:
    project.change("workers: 0", "workers: 2\n  insecure: true")
    project.change("epochs: 6,", "epochs: 60,")
    first = Submit(project, "killed.log", "submit", "train@cnn", "--address", cluster.url)

    def epochs() -> int:
        spools = cluster.home.glob(".trainyard/jobs/*/.trainyard/train/*/spool.jsonl")
        return max((path.read_text().count('"epoch",') for path in spools), default=0)

    wait_for(lambda: epochs() >= 8 or first.process.poll() is not None, "eight epochs")
    assert first.process.poll() is None, first.path.read_text()
    driver = next(process for process in cluster.processes() if "trainyard.jobs.driver" in process.cmdline())
    os.killpg(os.getpgid(driver.pid), signal.SIGKILL)
    assert first.code() == 75, first.path.read_text()
    assert first.wrote("was killed, or lost with its node") and not first.wrote("Traceback")
    again = Submit(project, "second.log", "submit", "train@cnn", "--address", cluster.url)
    assert again.code() == 0, again.path.read_text()
    second = again.path.read_text()
    assert "starting attempt 2" in second
    assert "cnn · train · continues after epoch " in second
    project.run("dvc", "pull", "-d", "train@cnn")
    assert "up to date" in project.run("dvc", "status", "prepare@cnn", "train@cnn")


@pytest.mark.long
@pytest.mark.faults
def test_a_lost_head_costs_one_more_command_and_no_step(root: Path, project: Project, tmp_path: Path) -> None:
    (project.folder / "gate").unlink(missing_ok=True)
    with (project.folder / "slow.py").open("a") as file:
        file.write("# through a lost head\n")
    try:
        with running(tmp_path) as lost:
            first = Submit(project, "lost.log", "submit", "slow", "--address", lost.url, "--patience", "3")
            first.wait("slow · train · begins after step 0")
            step = next(lost.home.glob(".trainyard/jobs/*/.trainyard")) / "step"
            wait_for(lambda: step.exists() and int(step.read_text()) >= 3, "three steps")
        assert first.code() == 75, first.path.read_text()
        assert first.wrote("does not answer") and first.wrote("the same command again, or trainyard attach")
        done = int(step.read_text())
        with running(tmp_path) as found:
            second = Submit(project, "found.log", "submit", "slow", "--address", found.url)
            second.wait(f"begins after step {done}\n")
            (project.folder / "gate").write_text("open")
            assert second.code() == 0, second.path.read_text()
    finally:
        (project.folder / "gate").write_text("open")


@pytest.mark.long
def test_a_head_with_a_token_serves_only_who_has_it(project: Project, tmp_path: Path) -> None:
    (project.folder / "gate").write_text("open")
    with (project.folder / "slow.py").open("a") as file:
        file.write("# with a token\n")
    with running(tmp_path, "CANARY-4712") as guarded:
        assert "wants a token; set RAY_AUTH_MODE=token" in trainyard(project, guarded, "jobs", code=2)
        wrong = tmp_path / "wrong"
        wrong.write_text("CANARY-4713")
        try:
            project.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(wrong)}
            refused = trainyard(project, guarded, "submit", "slow", code=2)
            assert "refuses the token" in refused and "CANARY" not in refused
            assert "Traceback" not in refused
            project.environment["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "token")
            output = trainyard(project, guarded, "submit", "slow")
            assert "dvc.lock has its results" in output and "CANARY" not in output
        finally:
            for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
                project.environment.pop(name, None)
        for process in guarded.processes():
            with suppress(psutil.Error):
                assert not any("CANARY" in word for word in process.cmdline())
