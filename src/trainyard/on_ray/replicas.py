"""The application of `trainyard serve` as a Ray Serve deployment: each replica is the same gate, routes and batches.

A Serve config file names `from_config` as its import_path, and models that every node sees in its args:
deploy/serving/serve.yaml.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ray import serve
from ray.serve.context import _get_global_client

from trainyard.errors import InputError, IntegrityError
from trainyard.on_ray.scaling import Scaling
from trainyard.serving.gate import Application, Message, Receive, Send, digest
from trainyard.serving.options import Options
from trainyard.serving.predictor import FILES, Predictor, Variant
from trainyard.serving.served import Served
from trainyard.serving.server import Service, accepted_names, quiet_libraries, read_token
from trainyard.training.access import is_loopback

DEPLOYMENT = "replicas"
"""Its name, within an application of any name."""
CONSTRUCTOR_TRIES = 3
"""A model that does not load will not load the next time."""
QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Or each request would write a line on the disk of its node."""


class Replica:
    """One of the processes that answer."""

    def __init__(
        self,
        models: Mapping[str, Path],
        variant: Variant,
        threads: int,
        options: Options,
        token: bytes | None,
        hosts: Collection[str] | None,
    ) -> None:
        """Keep what to serve; `token` and `hosts` as `Gate` takes them."""
        self.models, self.variant, self.threads = models, variant, threads
        self.options, self.token, self.hosts = options, token, hosts

    async def __serve_build_asgi_app__(self) -> Application:
        """Load the models, begin to answer, and return what requests are handed to."""
        quiet_libraries()
        served = {name: Served(name, path, self.variant, self.threads) for name, path in self.models.items()}
        self.service = Service(served, self.options, self.token, self.hosts, logging.getLogger("ray.serve").warning)
        await self.service.__aenter__()
        return signed(self.service.gate, serve.get_replica_context().replica_id.unique_id)

    def check_health(self) -> None:
        """Have Ray replace a replica in which nothing answers any more."""
        if any(task.done() for task in self.service.tasks):
            raise RuntimeError("what answers has ended")

    def drain(self) -> None:
        """Say from now on, to whoever asks /ready, that this is about to end; go on answering."""
        self.service.is_draining = True


def signed(gate: Application, replica: str) -> Application:
    """Return an application whose answers say in their heads which replica they come from."""
    name = replica.encode()

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        async def sign(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), (b"x-replica", name)]}
            await send(message)

        await gate(scope, receive, sign)

    return application


def application(
    models: Mapping[str, Path],
    options: Options,
    scaling: Scaling,
    *,
    variant: Variant,
    threads: int,
    token: bytes | None,
    hosts: Collection[str] | None,
) -> Any:
    """Return the Serve application for some models.

    Args:
        models: paths, as each replica sees them, by their names.
        options: limits of each replica.
        scaling: how many of them there are.
        variant: of the models.
        threads: of one call of the network, and processors that each replica takes of its node.
        token: as `Gate` takes it.
        hosts: as `Gate` takes it.
    """
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": threads},
        autoscaling_config=scaling.as_ray_says_it(),
        # Limits are the replicas' own; a slow client holds one of so many places, and no other request.
        max_ongoing_requests=options.connections,
        max_queued_requests=options.waiting,
        backpressure_config={"status_code": 429, "retry_after_s": 1},
        graceful_shutdown_timeout_s=options.answer_seconds + 5,
        max_constructor_retry_count=CONSTRUCTOR_TRIES,
        # A new model is loaded beside the one at work.
        max_surge_percent=100,
        logging_config=QUIET,
    )
    return deployment.bind(dict(models), variant, threads, options, token, hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModels:
    """`args` of a Serve config file."""

    models: tuple[str, ...]
    """Paths of models' folders, or of ONNX files, that are the same on every node."""
    int8: bool = False
    """The quantised models instead of those in fp32."""
    threads: int = 1
    """Of one call of the network, and processors that each replica takes of its node."""
    token_file: str | None = None
    """A file, on every node, with the token to ask for."""
    names: tuple[str, ...] = ()
    """Host names under which browsers reach it."""
    options: Options = field(default_factory=Options)
    """Limits of each replica."""
    scaling: Scaling = field(default_factory=Scaling)
    """How many replicas there are; `autoscaling_config` of the file's deployment goes before it."""


def from_config(args: dict[str, Any]) -> Any:
    """Return the Serve application that the args of a config file describe.

    Raises:
        InputError: an argument is wrong, or a model is not there.
        IntegrityError: Serve listens on a network and no token is asked for; a model or the token's file is refused.
    """
    try:
        asked = TypeAdapter(ServedModels).validate_json(json.dumps(args), strict=True, extra="forbid")
    except ValidationError as error:
        lines = [f"args.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise InputError("; ".join(lines)) from None
    variant: Variant = "int8" if asked.int8 else "fp32"
    models = {Path(path).name: Path(path) for path in asked.models}
    for path in models.values():
        if not (path / FILES[variant] if path.is_dir() else path).is_file():
            raise InputError(f"args.models: {path}: no such model on this node; put it where every node sees it")
        Predictor.load(path, variant, 1)
    host = listens_on()[0]
    if asked.token_file is None and not is_loopback(host):
        raise IntegrityError(
            f"http_options.host {host}: whoever reaches the nodes could ask; name a token_file in the application's args, "
            "or host: 127.0.0.1 to serve each node alone"
        )
    token = None if asked.token_file is None else read_token(Path(asked.token_file))
    return application(
        models,
        asked.options,
        asked.scaling,
        variant=variant,
        threads=asked.threads,
        token=None if token is None else digest(token),
        hosts=accepted_names(host, asked.names, token),
    )


def listens_on() -> tuple[str, int]:
    """Return host and port on which the Serve of this cluster listens; an empty host where there is none."""
    client = _get_global_client(raise_if_no_controller_running=False)
    return ("", 0) if client is None else (str(client.http_config.host), int(client.http_config.port))
