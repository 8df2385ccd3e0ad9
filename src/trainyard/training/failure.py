"""What an exception in a worker means: whether another attempt would meet it again."""

from __future__ import annotations

import json
import traceback
from dataclasses import astuple, dataclass
from pathlib import Path

LASTING = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What comes of code or data, and so comes again. Everything else may come of the machine, of a link or of a lost peer."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that no rule of ours has a message for, as the worker tells of it."""

    where: str
    """Worker, epoch and step."""
    said: str
    lasting: bool
    """Another attempt would meet it again."""
    memory: bool
    """Memory ran out, of the device or of the host."""
    peer: bool = False
    """Another worker did not answer: what befell that one is the cause."""

    def encode(self) -> bytes:
        """Return it as it is sent."""
        return json.dumps(astuple(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Failure:
        """Return what was sent."""
        return Failure(*json.loads(data))


def failure_of(error: Exception, where: str) -> Failure:
    """Return what to tell of an exception: its last line of code outside the libraries, type and message."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or list(frames)
    line = f" ({Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line})" if own else ""
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0] if lines else ''}{line}"
    kind = type(error).__name__
    # Gloo begins its messages with the file that they come from; NCCL's errors have types of torch's own.
    peer = kind.startswith("Dist") or kind == "PeerLost" or (kind == "RuntimeError" and "/gloo/" in str(error))
    # Of the host's, torch says it with a RuntimeError.
    memory = kind == "OutOfMemoryError" or isinstance(error, MemoryError) or "can't allocate memory" in str(error)
    return Failure(where, said, isinstance(error, LASTING), memory, peer)
