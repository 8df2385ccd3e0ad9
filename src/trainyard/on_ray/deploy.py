"""Serve exported models with replicas on a Ray cluster, for as long as the command runs: start, watch, renew, drain, end."""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from trainyard.errors import MachineError, ServiceError, TrainyardError, last_line
from trainyard.on_ray.place import Place
from trainyard.on_ray.plain_errors import plain_errors
from trainyard.on_ray.scaling import Scaling
from trainyard.serving.gate import digest
from trainyard.serving.options import Options
from trainyard.serving.predictor import FILES, Predictor, Variant
from trainyard.serving.server import Say, accepted_names, listen, tell
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.ray_session import session

APPLICATION = "trainyard"
"""Its name in the cluster's Serve; whoever starts it again takes its place."""
POLL_SECONDS = 0.2
LOOK_SECONDS = 2.0
"""Between two looks at the replicas, and at the models' files."""
PATIENCE_SECONDS = 60.0
"""Until it is said that no replica has started."""
CONTROLLER = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30"}
"""For the controller of Serve: what listens would have 5 s to import everything, also on a machine that has much else to do."""


@dataclass(slots=True)
class Ending:
    """Whether the command was told to end, and by what."""

    signal: int = 0

    def wait(self, seconds: float) -> bool:
        """Wait, and return whether it was told to end meanwhile."""
        end = time.monotonic() + seconds
        while not self.signal and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))
        return bool(self.signal)


class Shelf:
    """The models that are served: their files here, and what becomes of them."""

    def __init__(self, models: Mapping[str, Path], variant: Variant) -> None:
        """Open all of them once.

        Raises:
            InputError, IntegrityError: as `Predictor.load`.
        """
        self.files = {name: path / FILES[variant] if path.is_dir() else path for name, path in models.items()}
        self.variant = variant
        self.problems: dict[str, str] = {}
        self.fingerprints = {name: self._open(name) for name in self.files}
        self.states = {name: self._state(name) for name in self.files}

    def copy_to(self, folder: Path) -> dict[str, Path]:
        """Copy the files into a folder; return their paths within it."""
        places = {name: Path(name, "model.onnx") for name in self.files}
        for name, place in places.items():
            (folder / name).mkdir()
            shutil.copyfile(self.files[name], folder / place)
        return places

    def renewed(self, say: Say) -> bool:
        """Return whether another whole model lies at a file's place; say why one that is not whole is left there."""
        found = False
        for name in self.files:
            state = self._state(name)
            if state is None or state == self.states[name]:
                continue
            self.states[name] = state
            before = self.fingerprints[name]
            try:
                self.fingerprints[name] = self._open(name)
            except TrainyardError as error:
                say(f"{name}: {before[:12]} goes on answering: {error}")
                continue
            found = True
            say(f"{name}: {self.fingerprints[name][:12]} is brought to the replicas, before it was {before[:12]}")
        return found

    def _open(self, name: str) -> str:
        return Predictor.load(self.files[name], self.variant, 1).signature.fingerprint

    def _state(self, name: str) -> tuple[int, int, int] | None:
        try:
            status = self.files[name].stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def serve(
    models: Mapping[str, Path],
    variant: Variant,
    options: Options,
    scaling: Scaling,
    place: Place,
    *,
    threads: int = 1,
    token: str | None = None,
    names: Collection[str] = (),
    say: Say = tell,
) -> None:
    """Serve until SIGTERM or Ctrl-C, and return once everything that was asked is answered and nothing is left.

    Args:
        models: folders of exported models, or ONNX files, by their names.
        variant: which of a folder's files.
        options: limits of each replica.
        scaling: how many replicas there are.
        place: where.
        threads: of one call of the network, and processors that each replica takes.
        token: that requests must bring.
        names: by which browsers may call it.
        say: is given lines for whoever watches.

    Raises:
        InputError, IntegrityError: as `Predictor.load`.
        MachineError: Ray Serve is not installed, cannot start here, or the port is taken.
        ServiceError: the cluster does not answer, or its Serve is another one's.
    """
    _check_installed()
    from ray.serve.exceptions import RayServeException

    shelf = Shelf(models, variant)
    cluster = ClusterConfig(cpus_per_worker=threads, insecure=place.insecure)
    owned, goes_on = False, True
    with _ending() as ending, tempfile.TemporaryDirectory(prefix="ty-models-") as folder:
        while goes_on:
            copies = Path(tempfile.mkdtemp(dir=folder))
            # A cluster's nodes need not see this machine's files.
            paths = {name: file.resolve() for name, file in shelf.files.items()} if place.is_local else shelf.copy_to(copies)
            files = None if place.is_local else copies
            with (
                ExitStack() as quiet,
                session(cluster, scaling.max_replicas, address=place.address, files=files),
                plain_errors(place.address, RayServeException),
            ):
                from trainyard.on_ray.replicas import application

                started, place = _start_serve(place, options)
                owned = owned or started
                built = application(
                    paths,
                    options,
                    scaling,
                    variant=variant,
                    threads=threads,
                    token=None if token is None else digest(token),
                    hosts=accepted_names(place.host, names, token),
                )
                try:
                    _run(built)
                    goes_on = _watch(ending, shelf, place, say)
                except Exception:
                    with suppress(Exception):
                        _end(owned)
                    raise
                if not goes_on:
                    # Ray prints that calls of Serve's own have failed, once Serve has ended as it was told to.
                    quiet.enter_context(redirect_stdout(StringIO()))
                    _drain(options.drain_seconds if ending.signal == signal.SIGTERM else 0)
                    _end(owned)
    say("ended, with everything answered that was asked")


def _check_installed() -> None:
    try:
        import ray.serve  # noqa: F401
    except ImportError as error:
        raise MachineError(
            f"--address: replicas need what Ray Serve imports ({last_line(error)}); run: pip install "
            "'ray[serve]>=2.60,<2.61' (the extra `scale`), on the cluster's nodes too, or leave --address out"
        ) from None


def _start_serve(place: Place, options: Options) -> tuple[bool, Place]:
    """See to it that the cluster's Serve listens where it should; return whether it was started here, and where it listens.

    Raises:
        ServiceError: it listens somewhere else.
        MachineError: the port is taken.
    """
    from ray import serve
    from ray.exceptions import RayError

    from trainyard.on_ray.replicas import QUIET, listens_on

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    found = listens_on()
    if found[0]:
        if found != (place.host, place.port or found[1]):
            raise ServiceError(
                f"--address {place.address}: Ray Serve is at work there already and listens on {found[0]}:{found[1]}; "
                f"use --host {found[0]} --port {found[1]}, or end it with `serve shutdown`"
            )
        return False, replace(place, port=found[1])
    with closing(listen(place.host, place.port)) as sock:
        place = replace(place, port=sock.getsockname()[1])
    # From a slow body through a full queue to an answer.
    longest = options.body_seconds + 2 * options.answer_seconds + 5
    # What listens on a slow machine may begin later; `_watch` waits for it.
    with suppress(TimeoutError, RayError):
        serve.start(
            http_options={
                "host": place.host,
                "port": place.port,
                "request_timeout_s": longest,
                "keep_alive_timeout_s": max(1, round(options.idle_seconds)),
            },
            logging_config=QUIET,
            controller_options={"runtime_env": {"env_vars": CONTROLLER}},
        )
    return True, place


def _run(application: Any) -> None:
    from ray import serve

    serve.run_many(
        [serve.RunTarget(target=application, name=APPLICATION, route_prefix="/", logging_config=None)],
        wait_for_ingress_deployment_creation=True,
        wait_for_applications_running=False,
    )


def _watch(ending: Ending, shelf: Shelf, place: Place, say: Say) -> bool:
    """Say how many replicas answer, until the command is told to end; return whether it goes on with another model.

    Raises:
        MachineError: no replica can start.
    """
    from ray import serve

    shown = f"[{place.host}]" if ":" in place.host else place.host
    where = f"{', '.join(shelf.files)}: http://{shown}:{place.port}"
    began, said, told, last = time.monotonic(), False, False, 0
    while not ending.wait(LOOK_SECONDS if said else POLL_SECONDS):
        status = serve.status()
        found = status.applications.get(APPLICATION)
        if found is None:
            raise ServiceError(f"--address {place.address}: someone else has ended the replicas; start them again")
        listening = "HEALTHY" in status.proxies.values()
        running = sum(states.replica_states.get("RUNNING", 0) for states in found.deployments.values()) if listening else 0
        if found.status == "DEPLOY_FAILED" and not running:
            why = last_line(RuntimeError(found.message))
            raise MachineError(f"--address {place.address}: no replica can start ({why}); mend that, and run the command again")
        if running and not said:
            said = True
            say(f"{where} (schema at /openapi.json; Ctrl-C ends it)")
        if running != last:
            say(f"{running} replica{'s answer' if running != 1 else ' answers'}")
            last = running
        if not running and not told and time.monotonic() - began > PATIENCE_SECONDS:
            told = True
            say("no replica has started yet: the nodes have no room for one, or still fetch what it needs; see `ray status`")
        if not place.is_local and shelf.renewed(say):
            return True
    return False


def _drain(seconds: float) -> None:
    """Answer for some seconds more, while whoever sends requests learns from /ready to stop."""
    from ray import serve

    if seconds and APPLICATION in serve.status().applications:
        serve.get_app_handle(APPLICATION).broadcast("drain").results(timeout_s=seconds + POLL_SECONDS)
        time.sleep(seconds)


def _end(owned: bool) -> None:
    """Take the replicas away once they have answered; and Serve, where it was started here."""
    from ray import serve

    serve.delete(APPLICATION)
    if owned:
        serve.shutdown()


@contextmanager
def _ending() -> Iterator[Ending]:
    """Take note of SIGTERM and Ctrl-C; a second one ends the command at once."""
    ending = Ending()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def told(number: int, frame: FrameType | None) -> None:
        if ending.signal:
            raise KeyboardInterrupt
        ending.signal = number

    for number in before:
        signal.signal(number, told)
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
