"""A server that answers as the head of a Ray cluster does, with or without a token."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

TOKEN = "5eed" * 16
ALIVE = b"\n\x00\x12\x062.60.0 \x01"
"""What Ray 2.60.0 answers."""


class _Head(grpc.GenericRpcHandler):
    """What a Ray head answers to the question whether it is alive."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        given = dict(details.invocation_metadata).get("authorization")

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            if self.token is not None and given != f"Bearer {self.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return ALIVE

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def head(token: str | None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Head(token)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(120)
