"""Start a private Ray on this machine, or join a cluster; ask its nodes; and say how many workers it can run."""

from __future__ import annotations

import atexit
import logging
import os
import re
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from trainyard.errors import MachineError, ServiceError, TrainyardError, last_line
from trainyard.file_lock import take, wait_for
from trainyard.training.access import LOOPBACK, TOKEN_PATH, check_cluster, head_of
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.elastic import Node, code_environment
from trainyard.training.hardware import gpus
from trainyard.training.private_access import TOKEN_FILE, keep_loopback, private_access
from trainyard.training.timing import (
    CONNECT_SECONDS,
    KILLED_SECONDS,
    NODE_QUESTION_SECONDS,
    OBJECT_STORE_BYTES,
    RAY_WORKER_HANG_SECONDS,
    START_TRIES,
    WORKER_POLL_SECONDS,
    WORKER_START_SECONDS,
)

PRIVATE = "TRAINYARD_PRIVATE_RAY"
"""Variable of the environment: set where Ray is this process's own."""
SHARED = "TRAINYARD_SHARED_RAY"
"""Variable of the environment: the address of a private Ray that the process which started this one shares with it."""
VITAL = ("gcs_server", "raylet")
"""Ray's own processes without which it can do nothing: the one that knows all others, and the one that starts them."""
SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")
LONGEST_PLACE = 107 - len("/ty-12345678/r/session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store")
"""Bytes of a folder in which the sockets of a private Ray have a name of no more than the 107 that Linux allows."""
SHARED_MEMORY = Path("/dev/shm")
LIMITS = (("processes", "u", resource.RLIMIT_NPROC, 1024), ("open files", "n", resource.RLIMIT_NOFILE, 512))
"""What Ray's own processes run out of below so many, with threads counted as processes."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


class PrivateFolder:
    """A folder of a private Ray, held by a lock that the kernel gives back however its owner ends."""

    def __init__(self) -> None:
        """Make the folder, and delete those whose owners were killed.

        Raises:
            MachineError: no folder for temporary files is short enough.
        """
        place = _short_place()
        for old in place.glob("ty-*/lock"):
            with suppress(OSError):
                # Another user may have put anything there under this name.
                if old.parent.lstat().st_uid == os.getuid() and old.is_file():
                    _remove_unless_held(old)
        self.path = Path(tempfile.mkdtemp(prefix="ty-", dir=place))
        self.of_ray = self.path / "r"
        """Ray's own, which it opens to everybody: through the one around it nobody else comes that far."""
        self.access = ExitStack()
        self.lock: IO[str] = (self.path / "new").open("w")
        wait_for(self.lock)
        # Under its name only once it is held, so that nobody takes it for a killed one's.
        os.replace(self.path / "new", self.path / "lock")

    def remove(self) -> None:
        """Delete the folder, and with it who may reach the Ray that had it."""
        self.access.close()
        shutil.rmtree(self.path, ignore_errors=True)
        self.lock.close()


def _short_place() -> Path:
    """Return a folder for temporary files in which Ray's sockets have room: the usual one, unless its path is too long."""
    usual = tempfile.gettempdir()
    for place in (usual, *SHORT_PLACES):
        if len(os.fsencode(place)) <= LONGEST_PLACE and os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    raise MachineError(
        f"{usual}: is too long for the sockets of a Ray in it, and none of {', '.join(SHORT_PLACES)} can be written; "
        f"set TMPDIR to a folder of at most {LONGEST_PLACE} characters, or cluster.workers: 0"
    )


def _remove_unless_held(path: Path) -> None:
    with path.open() as lock:
        if take(lock):
            shutil.rmtree(path.parent, ignore_errors=True)


def set_environment() -> None:
    """Set what Ray reads at its import and hands on to its own processes."""
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_TRAIN_ENABLE_PRINT_PATCH="0",
        RAY_TRAIN_METRICS_ENABLED="0",
        # The driver looks after nodes that are about to be taken away itself: it has the workers save first.
        RAY_TRAIN_ENABLE_PREEMPTION_WATCHER="0",
        RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=str(WORKER_POLL_SECONDS),
        RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=str(WORKER_START_SECONDS),
        RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S=str(RAY_WORKER_HANG_SECONDS),
        RAY_DEDUP_LOGS_SKIP_REGEX=".*",
        RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
        # A thread that asks Ray for something after it was left would otherwise start another one.
        RAY_ENABLE_AUTO_CONNECT="0",
        # Ray would run workers at a low priority; training is what the user waits for.
        RAY_worker_niceness="0",
        # Ray Train takes none of the processes that Ray would start ahead.
        RAY_prestart_worker_first_driver="0",
        # Or the controller would wait until the workers that are started ahead of it have imported everything.
        RAY_worker_maximum_startup_concurrency="64",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        # Workers import the same package as the driver, also from a copy of the project.
        PYTHONPATH=os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])),
    )


def start_private(folder: PrivateFolder, cluster: ClusterConfig, workers: int) -> None:
    """Start a Ray of this process alone, which ends with it."""
    os.environ[PRIVATE] = "1"
    set_environment()
    folder.access.enter_context(private_access(folder.path))
    import ray

    _leave_out_services()

    for tried in range(1, START_TRIES + 1):
        try:
            ray.init(
                address="local",
                num_cpus=workers * cluster.threads,
                num_gpus=gpus(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(folder.of_ray),
                _node_ip_address=LOOPBACK,
                **QUIET,
            )
            break
        except Exception as error:
            # Ray gives its own processes 30 s, and no more on a machine that has much else to do.
            if "timed out during startup" not in str(error) or tried == START_TRIES:
                raise
            kill_private(folder.path)
            ray.shutdown()
    logging.getLogger("ray").setLevel(logging.ERROR)


def remedy() -> str:
    """Return what to do where Ray cannot start here, by what it needs: it says of all of them that something took too long."""
    if SHARED_MEMORY.is_dir() and not os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return f"{SHARED_MEMORY} cannot be written by this user: chmod 1777 {SHARED_MEMORY}"
    found = []
    for what, option, limit, least in LIMITS:
        allowed = resource.getrlimit(limit)[0]
        if allowed != resource.RLIM_INFINITY and allowed < least:
            found.append(f"{what}, of which `ulimit -{option}` allows {allowed}")
    return f"allow it more {' and '.join(found)}" if found else "free memory"


def _leave_out_services() -> None:
    """Have Ray start nothing that serves people or other machines: each is a process that imports much before workers can.

    That is what gathers logs, asks a cloud for machines, and serves a page: `include_dashboard=False` leaves out the page
    alone, and `ray.init` has no such switch for the others.
    """
    from ray._private.node import Node

    for name in ("start_monitor", "start_log_monitor", "start_api_server"):
        setattr(Node, name, _nothing)


def _nothing(node: Any, **_: Any) -> None:
    node._webui_url = None


def kill_private(folder: Path) -> None:
    """Kill all processes of the private Ray that has the folder, at once, and wait until they are gone."""
    found = _processes(folder)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=KILLED_SECONDS)


def _processes(folder: Path) -> list[psutil.Process]:
    """Return the processes of a private Ray: this one's children with theirs, and those whose parents have ended."""
    me, found = psutil.Process(), []
    for process in me.children():
        with suppress(psutil.Error):
            if str(folder) in " ".join(process.cmdline()):
                found += [process, *process.children(recursive=True)]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            # Other children of this process have it in their environment too.
            of_it = process.environ().get(TOKEN_PATH) == str(folder / TOKEN_FILE)
            if of_it and me.pid not in (process.pid, process.ppid()) and process not in found:
                found.append(process)
    return found


def lost_part() -> str | None:
    """Return which process the private Ray has lost that it cannot do without, and how; None while it has both.

    Ray itself says nothing where the one that starts processes has ended, and ends this process a minute after the one that
    knows all others.
    """
    if "ray" not in sys.modules:
        # It could not even be started.
        return None
    import ray

    node = ray._private.worker._global_node
    for name, process in node.dead_processes() if node is not None else ():
        if name in VITAL:
            code = process.returncode
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended with exit code {code}"
            return f"the private Ray's {name} (pid {process.pid}) {how}"
    return None


def join(address: str, insecure: bool, files: Path | None = None) -> None:
    """Connect to a cluster that is there; what runs on its nodes finds the `files` of a folder where it begins.

    Raises:
        InputError: it is no address of a head.
        ServiceError: nothing listens at the address, or it refuses this user's token, or does not answer.
        MachineError: its versions of Ray or Python are not this machine's, or its node here is another user's.
        IntegrityError: it is on a network and asks nobody for a token, and this is not said to be meant.
    """
    host, port = head_of(address)
    _answers(host, port)
    _check_owner(address, port)
    set_environment()
    os.environ.pop(PRIVATE, None)
    check_cluster(address, insecure)
    import ray

    code: dict[str, Any] = code_environment()
    if files is not None:
        code["working_dir"] = str(files)
    if os.environ.get(SHARED) == address:
        # This machine's, whose own files run.
        keep_loopback()
        os.environ[PRIVATE], code = "1", {}
    try:
        ray.init(address=address, runtime_env=code, **QUIET)
    except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and more for the same thing
        raise _not_joined(address, error) from error
    logging.getLogger("ray").setLevel(logging.ERROR)


def nodes() -> list[Node]:
    """Return the living nodes of the cluster that this process is part of. Blocks while its head is away."""
    import ray
    from ray._private.state import state

    leaving = state.get_draining_nodes()
    return [Node.of(facts, leaving) for facts in ray.nodes() if facts["Alive"]]


def unplaced() -> str:
    """Return what of the cluster is free while a group of workers waits for room; nothing while none does."""
    import ray
    from ray.util import placement_group_table

    if not any(group["state"] == "PENDING" for group in placement_group_table().values()):
        return ""
    free, all_of_it = ray.available_resources(), ray.cluster_resources()
    kinds = [("CPU", "processors"), *([("GPU", "GPUs")] if "GPU" in all_of_it else [])]
    return " and ".join(f"{free.get(kind, 0):g} of {all_of_it.get(kind, 0):g} {name}" for kind, name in kinds) + " are free"


def head() -> tuple[str, int]:
    """Return host and port of the head of the cluster that this process is part of."""
    import ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def own_address() -> str:
    """Return the address under which others join the Ray of this process."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def head_store() -> Any:
    """Return the connection of this process to Ray's head, which keeps small values for whoever asks."""
    from ray._private.worker import global_worker

    return global_worker.gcs_client


def ask_every_node(question: Callable[..., bool], *arguments: Any) -> list[bool]:
    """Return what each living node answers."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(question)
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    answers = [ask.options(scheduling_strategy=place).remote(*arguments) for place in places]
    with suppress(ray.exceptions.RayError):
        return list(ray.get(answers, timeout=NODE_QUESTION_SECONDS))
    return [False]


def leave() -> None:
    """Leave the cluster, or end the private Ray."""
    import ray

    ray.shutdown()


def abandon(code: int) -> None:
    """Leave a Ray that is gone, with an exit code: its own farewell would wait for it, and end the process after a minute."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(end)


def _check_owner(address: str, port: int) -> None:
    """Refuse a cluster whose node on this machine another user has started.

    Ray would abort this process, with a stack of its own; or, where this user is root, have workers that may not write what is
    root's.

    Raises:
        MachineError: naming that user.
    """
    owners: dict[int, str] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline() if process.name() == "raylet" else []
            if any(re.fullmatch(rf"--gcs[-_]address=.*:{port}", word) for word in words):
                owners[process.uids().real] = f"{process.username()} (process {process.pid})"
    if owners and os.getuid() not in owners:
        raise MachineError(
            f"cluster.address: {address}: its Ray on this machine was started by {', '.join(owners.values())}, and takes no "
            "other user's programs; run this as that user, send it with `trainyard submit`, or use address: local"
        )


def _not_joined(address: str, error: Exception) -> TrainyardError:
    """Return what it means that a cluster which listens cannot be joined."""
    if "ersion mismatch" in str(error):
        found = " ".join(str(error).split())
        return MachineError(f"cluster.address: {address}: {found}; install the same versions here")
    return ServiceError(f"cluster.address: {address} does not answer ({last_line(error)}); start it")


def _answers(host: str, port: int) -> None:
    """Raise ServiceError at once where nothing listens; Ray itself would try for half a minute."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ServiceError(
            f"cluster.address: {host}:{port} does not answer ({error}); start the cluster, or use address: local"
        ) from None
