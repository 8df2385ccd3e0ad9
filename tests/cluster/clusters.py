"""A Ray cluster on the hosts of a bench, and trainings that run on it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import trainyard
from tests.cluster.hosts import Bench, Host, wait_for
from trainyard.training.checkpoint import kept_weights
from trainyard.training.spool import Reader, Record

EPOCHS = 40
PORT = 6379
START_TRIES = 5
SOURCES = Path(trainyard.__file__).parents[1]
PARAMS = """\
recipes:
  cnn:
    family: cnn
    data: {{source: digits, path: requirements.lock, seed: 0, val_fraction: 0.15, test_fraction: 0.2}}
    model: {{widths: [8, 16], convolutions: 1, normalisation: group, activation: gelu, pooling: average, dropout: 0.1}}
    train: {{epochs: {epochs}, batch_size: 128, optimizer: sgd, learning_rate: 0.05, schedule: one_cycle, precision: fp32}}
    evaluate: {{}}
    export: {{}}
cluster:
  workers: {workers}
{cluster}"""

HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    # More patient than the files of deploy/: tests run on machines on which all else runs too.
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
}


class Training:
    """A training in a folder of the shared store, driven from one of the hosts."""

    def __init__(self, cluster: Cluster, name: str, *, epochs: int, workers: Any, **settings: Any) -> None:
        self.cluster = cluster
        self.folder = cluster.bench.store / name
        self.folder.mkdir()
        settings = {"address": cluster.address, **settings}
        lines = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in settings.items())
        text = PARAMS.format(epochs=epochs, workers=json.dumps(workers), cluster=lines)
        (self.folder / "params.yaml").write_text(text)
        self.log = self.folder / "driver.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.scratch = self.folder / "scratch"
        """The folder of checkpoints and records, as the driver sees it."""
        self.environment = dict(cluster.environment)
        self._prefix: list[str] = []
        self._reader: Reader | None = None
        self._records: list[Record] = []

    def keep_apart(self) -> None:
        """Let every host, and the driver, see a folder of its own where the scratch folder is."""
        place = self.folder / "scratch"
        place.mkdir()
        for host in self.cluster.hosts.values():
            own = self.folder / host.name
            own.mkdir()
            host.bind(own, place)
        self.scratch = self.folder / "driver"
        self.scratch.mkdir()
        bound = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        self._prefix = ["unshare", "--mount", "bash", "-c", bound, "apart", str(self.scratch), str(place)]

    @property
    def records(self) -> list[Record]:
        """All that was recorded so far."""
        self._reader = self._reader or Reader(self.scratch / "spool.jsonl")
        self._records.extend(self._reader.read())
        return self._records

    @property
    def said(self) -> str:
        """What the driver has written."""
        return self.log.read_text()

    def start(self, host: Host | None = None) -> None:
        """Run the driver on a host, the head if no other is named."""
        host = host or self.cluster.head
        driver = Path(__file__).with_name("driver.py")
        environment = {**self.environment, "PYTHONPATH": str(SOURCES)}
        # In the training's own folder, where its lock is its own.
        command = [
            *self._prefix,
            "env",
            f"--chdir={self.folder}",
            sys.executable,
            str(driver),
            str(self.folder),
            str(self.cluster.bench.store / "packed"),
        ]
        self.process = host.start(*command, log=self.log, environment=environment)

    def reach(self, epochs: int) -> None:
        """Wait until so many epochs have been finished, and the run has not."""

        def there() -> bool:
            assert self.process is None or self.process.poll() is None, self.said
            return sum(record.kind == "epoch" for record in self.records) >= epochs

        wait_for(there, lambda: f"epoch {epochs}; the driver said {self.said}")

    def resumed(self) -> None:
        """Wait until the training has gone on from a checkpoint."""

        def there() -> bool:
            assert self.process is None or self.process.poll() is None or self.process.returncode == 0, self.said
            return any(record.resumed for record in self.records)

        wait_for(there, lambda: f"a new attempt; the driver said {self.said}")

    def catch_host(self) -> Host:
        """Freeze a host with a worker, not the head, in the midst of the training, and return it."""
        host = self.cluster.host_of_a_worker()
        host.freeze()
        assert self.runs(), self.said
        return host

    def runs(self) -> bool:
        """Whether the driver has not ended."""
        return self.process is not None and self.process.poll() is None

    def end(self, code: int = 0) -> str:
        """Wait for the driver's end and return what it said."""
        assert self.process is not None
        process = self.process
        wait_for(lambda: process.poll() is not None, lambda: f"the driver's end; it said {self.said}")
        assert process.returncode == code, self.said
        return self.said

    @property
    def history(self) -> list[dict[str, float]]:
        """The metrics by epoch, without what depends on the clock."""
        rows = json.loads((self.folder / "history.json").read_text())
        return [{k: v for k, v in row.items() if k not in ("seconds", "throughput/samples_per_s")} for row in rows]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The weights of the last epoch."""
        return kept_weights(self.scratch / "checkpoints", "f", "last")[0]

    def assert_same_end(self, other: Training) -> None:
        """Check that two trainings came to the same weights and metrics, in every bit."""
        assert self.history == other.history
        ours, theirs = self.weights, other.weights
        assert [name for name, weight in ours.items() if not torch.equal(weight, theirs[name])] == []

    def assert_same_losses(self, other: Training) -> None:
        """Check that two trainings saw the same, as far as sums over another number of workers can be the same."""
        for row, expected in zip(self.history, other.history, strict=True):
            assert row["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-6)
            assert row["step"] == expected["step"]


class Cluster:
    """Ray on some hosts, which take each other's word only with a token."""

    def __init__(
        self,
        bench: Bench,
        *,
        processors: dict[str, int],
        hidden: tuple[Path, ...] = (),
        health: dict[str, str] = HEALTH,
    ) -> None:
        """`processors` of each host; the first is the head. On the others, the `hidden` folders are empty.

        `health` is the environment that says when Ray counts a host as lost.
        """
        self.bench = bench
        self.health = health
        self.processors = processors
        token = bench.folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        # Ray would run workers at a low priority, where other work of the machine starves them.
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_worker_niceness": "0"}
        names = list(processors)
        self.hosts = {name: bench.host(name, hidden=hidden if name != names[0] else ()) for name in names}
        self.head = self.hosts[names[0]]
        self.address = f"{self.head.address}:{PORT}"
        self._start()

    def join(self, name: str) -> None:
        """Have a host start Ray: the first as the head, the others as its nodes."""
        host = self.hosts[name]
        place = ["--head", f"--port={PORT}"] if host is self.head else [f"--address={self.address}"]
        place += ["--include-dashboard=false"] if host is self.head else []
        command = (
            *("ray", "start", *place, f"--node-ip-address={host.address}", f"--num-cpus={self.processors[name]}"),
            *("--num-gpus=0", "--object-store-memory=80000000", f"--temp-dir={self.bench.private}/ray"),
        )
        for left in reversed(range(START_TRIES)):
            try:
                host.run(*command, environment={**self.environment, **self.health})
                return
            except (AssertionError, subprocess.TimeoutExpired):
                if not left:
                    raise
            # Ray gives a node 30 s to start, which a busy machine may need longer for: from the beginning, on an empty host.
            host.kill()
            host.switch_on()

    def restore(self) -> None:
        """Bring back the hosts that are off or cut off, and wait until Ray has all of them."""
        for name, host in self.hosts.items():
            host.mend()
            host.thaw()
            if not host.processes("raylet/raylet"):
                if not host.processes():
                    host.switch_on()
                self.join(name)
        wait_for(lambda: len(self.nodes()) == len(self.hosts), "all nodes to be in the cluster")

    def end_drivers(self) -> None:
        """End the drivers of tests that failed: they hold the recipe's lock."""
        for host in self.hosts.values():
            for driver in host.processes("driver.py"):
                with suppress(psutil.Error):
                    driver.kill()

    def renew(self) -> None:
        """Start Ray anew on all hosts, the head first, as one does after the head was lost."""
        for host in self.hosts.values():
            host.kill()
            host.switch_on()
        self._start()

    def _start(self) -> None:
        first, *others = self.hosts
        self.join(first)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.join, others))

    def drain(self, identity: str) -> None:
        """Tell Ray that a node is about to be taken away, as a cloud's notice does."""
        self.head.run(
            *("ray", "drain-node", f"--address={self.address}", f"--node-id={identity}"),
            *("--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken", "--deadline-remaining-seconds=600"),
            environment=self.environment,
        )

    def nodes(self) -> list[tuple[str, str]]:
        """Return address and identity of each node that Ray counts as alive."""
        code = (
            f"import ray; ray.init('{self.address}', log_to_driver=False);"
            "print(*(f\"{node['NodeManagerAddress']},{node['NodeID']}\" for node in ray.nodes() if node['Alive']))"
        )
        printed = self.head.run(sys.executable, "-W", "ignore", "-c", code, environment=self.environment)
        return [
            (address, identity) for address, _, identity in (entry.partition(",") for entry in printed.splitlines()[-1].split())
        ]

    def train(self, name: str, *, epochs: int = EPOCHS, workers: Any = 2, until: int = 2, **settings: Any) -> Training:
        """Start a training, and return it once so many of its epochs are finished."""
        training = Training(self, name, epochs=epochs, workers=workers, **settings)
        training.start()
        training.reach(until)
        return training

    def host_of_a_worker(self) -> Host:
        """Return a host that is not the head and has a worker."""
        return next(self.hosts[name] for name, pids in self.workers().items() if pids and self.hosts[name] is not self.head)

    def workers(self) -> dict[str, list[int]]:
        """Return the pids of the training workers by host."""
        return {name: [process.pid for process in host.processes("RayTrainWorker")] for name, host in self.hosts.items()}
