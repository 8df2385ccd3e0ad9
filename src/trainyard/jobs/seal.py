"""Secrets on their way to a job.

Ray writes a job's environment into its own log on every node, readable by all there, and its metadata into none. So the
environment carries the secrets encrypted with a one-time pad, and the metadata carry the pad. Whoever may ask Ray for jobs
can put the two together: they may also run programs there. What is kept from is the log, and whoever reads logs.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from trainyard.training.elastic import RAY_JOB

SEALED = "TRAINYARD_SEALED"
"""Environment variable with the encrypted secrets."""
PAD = "trainyard.seal"
"""Metadata with the pad."""


def seal(values: Mapping[str, str]) -> tuple[str, str]:
    """Return `values` encrypted, and the pad, both in hex digits; either alone says nothing but their length."""
    text = json.dumps(dict(values)).encode()
    pad = secrets.token_bytes(len(text))
    return _xor(text, pad).hex(), pad.hex()


def unseal(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets of the job that this process is, none where it got none."""
    if not (sealed := environment.get(SEALED)):
        return {}
    pad = json.loads(environment[RAY_JOB])["metadata"][PAD]
    values: dict[str, str] = json.loads(_xor(bytes.fromhex(sealed), bytes.fromhex(pad)))
    return values


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))
