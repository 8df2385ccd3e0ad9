"""What Ray says in many lines, in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trainyard.errors import ServiceError, TrainyardError, last_line


@contextmanager
def plain_errors(address: str, *kinds: type[Exception]) -> Iterator[None]:
    """Say what goes wrong on a cluster as an error of ours; `kinds` are a library's own, beside Ray's.

    Raises:
        ServiceError: with the last line, which is the cause.
    """
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, TimeoutError, RuntimeError, *kinds) as error:
        # What a task of ours raised comes as both.
        cause = getattr(error, "cause", None)
        if isinstance(cause, TrainyardError):
            raise cause from None
        raise ServiceError(
            f"--address {address}: the cluster does not do it ({last_line(error)}); see what `trainyard doctor` says of it, "
            "and run the command again"
        ) from error
