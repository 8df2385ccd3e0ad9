"""Where a model is put to work: on which Ray, and, where it answers over HTTP, under which address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainyard.recipe import read_settings
from trainyard.training.access import LOOPBACK

PARAMS = Path("params.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """On which Ray, and where it listens."""

    address: str
    """`local`: a private Ray of this command. Otherwise that of a cluster's head."""
    insecure: bool = False
    """Use a cluster on a network that asks for no token."""
    host: str = LOOPBACK
    """On each node that has a replica, and on the head."""
    port: int = 8000
    """0: one that is free."""

    @property
    def is_local(self) -> bool:
        """Whether every process sees this machine's files."""
        return self.address == "local"


def project_is_insecure() -> bool:
    """Return whether params.yaml, where there is one, says that a cluster may let in anybody."""
    return PARAMS.exists() and read_settings(PARAMS)[0].insecure
