"""A job of Slurm, on a real Slurm of one node on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.long]
SECONDS = 240
TRAIN = """
import os, sys, time
from pathlib import Path
import ray
ray.init(log_to_driver=False)
Path("out").write_text(f"{len(ray.nodes())} {os.environ['RAY_AUTH_MODE']} {int(ray.cluster_resources()['CPU'])}")
if Path("slow").exists() and not Path("noticed").exists():
    import signal
    def notice(*_):
        Path("noticed").touch()
        sys.exit(75)
    signal.signal(signal.SIGTERM, notice)
    Path("running").touch()
    time.sleep(1000)
"""


def wait(condition: object, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited {SECONDS} s for {what}"
        time.sleep(0.5)


def said(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of commands of a Slurm that runs here."""
    programs = ("slurmctld", "slurmd", "sbatch", "munged")
    path = "/usr/sbin:" + os.environ["PATH"]
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here (apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root")
    folder = tmp_path / "slurm"
    folder.mkdir(mode=0o755)
    (folder / "munge").mkdir(mode=0o700)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    # Short and in a folder that everybody may enter, as munge wants it; below /tmp.
    run = Path(f"/tmp/ty-munge-{os.getpid()}")
    run.mkdir(mode=0o755)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(
        f"ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={free_port()}\nSlurmdPort={free_port()}\n"
        f"SlurmUser=root\nAuthType=auth/munge\nCredType=cred/munge\nAuthInfo=socket={run}/socket\n"
        f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\nSlurmctldPidFile={folder}/ctld.pid\n"
        f"SlurmdPidFile={folder}/d.pid\nSlurmctldLogFile={folder}/ctld.log\nSlurmdLogFile={folder}/d.log\n"
        "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\nReturnToService=2\n"
        "MpiDefault=none\nJobRequeue=1\nKillWait=120\nBatchStartTimeout=120\n"
        f"NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory=1000 State=UNKNOWN\n"
        f"PartitionName=all Nodes={host} Default=YES State=UP\n"
    )
    for name in ("state", "spool"):
        (folder / name).mkdir()
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": path}
    munge = ["munged", "-F", "-f", f"--socket={run}/socket", f"--key-file={key}", f"--pid-file={run}/pid"]
    munge += [f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed"]
    servers = []
    try:
        for command in (munge, ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", host]):
            log = (folder / f"{command[0]}.out").open("w")
            servers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
            if command is munge:
                wait((run / "socket").exists, "munge")
        wait(lambda: "idle" in said(environment, "sinfo", "-h", "-o", "%T"), f"a node of Slurm; see {folder}")
        yield environment
    finally:
        subprocess.run(["scancel", "--full", "-u", "root"], env=environment, capture_output=True, timeout=60)
        time.sleep(2)
        for server in reversed(servers):
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(20)
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
        shutil.rmtree(run, ignore_errors=True)


def submit(root: Path, folder: Path, environment: dict[str, str]) -> None:
    (folder / "pipeline").mkdir(parents=True)
    (folder / "pipeline" / "train.py").write_text(TRAIN)
    (folder / "dvc.yaml").write_text("stages:\n  train:\n    cmd: python pipeline/train.py\n    outs: [out]\n")
    (folder / ".venv").symlink_to(Path(sys.prefix))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([f"{sys.prefix}/bin/dvc", "init", "-q"], cwd=folder, check=True)
    options = ["--nodes=1", "--cpus-per-task=1", "--mem=100M", "--gpus-per-node=0", "--time=10", "--output=job.log"]
    script = str(root / "deploy" / "slurm" / "train.sbatch")
    subprocess.run(["sbatch", *options, script, "train"], cwd=folder, env=environment, check=True, capture_output=True)


def queue(environment: dict[str, str]) -> str:
    return said(environment, "squeue", "-h", "-o", "%T")


def test_a_job_starts_ray_with_a_token_and_reproduces(root: Path, tmp_path: Path, slurm: dict[str, str]) -> None:
    project = tmp_path / "project"
    submit(root, project, slurm)
    wait(lambda: not queue(slurm).strip(), "the end of the job")
    log = (project / "job.log").read_text()
    assert (project / "out").exists(), log
    assert (project / "out").read_text().split()[:2] == ["1", "token"], log
    assert not list((project / ".trainyard" / "slurm").glob("*.token"))


def test_a_job_with_notice_saves_and_goes_back_into_the_queue(root: Path, tmp_path: Path, slurm: dict[str, str]) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "slow").touch()
    submit(root, project, slurm)
    wait((project / "running").exists, "the training to run")
    subprocess.run(["scancel", "--batch", "--signal=TERM", "-u", "root"], env=slurm, check=True)
    wait((project / "noticed").exists, "the training to hear of it")
    wait(lambda: "goes back into the queue" in (project / "job.log").read_text(), "the requeue")
    # Slurm lets a requeued job wait for two minutes.
    subprocess.run(["scontrol", "update", "jobid=1", "starttime=now"], env=slurm, capture_output=True)
    wait(lambda: "PENDING" in queue(slurm) or (project / "out").exists(), "the job to be there again")
