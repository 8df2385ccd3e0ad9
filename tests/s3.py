"""An S3 server, on loopback unless told otherwise, in a process of its own that ends with the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

import pytest

SERVE = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer(sys.argv[1], 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


class S3Server:
    """`with S3Server() as server: server.url`; any credentials serve."""

    def __init__(self, address: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        """`prefix` is the command that runs another one where the address is."""
        self.address = address
        self.prefix = prefix

    def __enter__(self) -> S3Server:
        pytest.importorskip("moto", reason="moto[server,s3] is not installed")
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, "-W", "ignore", "-c", SERVE, self.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = f"http://{self.address}:{int(self.process.stdout.readline())}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self.process.kill()
        self.process.communicate()

    def pause(self) -> None:
        """Let connections be taken, and never answered."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        os.kill(self.process.pid, signal.SIGCONT)

    def environment(self) -> dict[str, str]:
        """Return what a program needs to reach the server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        from pyarrow.fs import S3FileSystem

        S3FileSystem(
            endpoint_override=self.url,
            access_key="test-key",
            secret_key="test-secret",
            region="us-east-1",
            # Its first answer is one that imports much.
            connect_timeout=60.0,
            request_timeout=120.0,
            allow_bucket_creation=True,
        ).create_dir(name)
