"""Import a large package without what it would bring along and is not used here, at seconds and memory for each process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.metadata import PackageNotFoundError
from types import ModuleType

NOT_FOR_TRAINING = ("scipy", "matplotlib", "omegaconf")
"""torchmetrics and Lightning import these where they are installed: for metrics, plots and settings that no recipe has."""


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Have this thread import, in the block, as where packages are not installed; one that is loaded stays as it is.

    For packages that the imported one can do without: scikit-learn without pandas, say.
    """
    finder = _Absent(packages)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def load_lightning() -> None:
    """Import Lightning and torchmetrics, before anything of ours does."""
    with without(*NOT_FOR_TRAINING):
        # They ask for versions, too, which are there whether a package can be imported or not.
        from lightning_utilities.core import imports

        asked = imports._version  # type: ignore[attr-defined]

        def version(distribution_name: str) -> str:
            if distribution_name in NOT_FOR_TRAINING and distribution_name not in sys.modules:
                raise PackageNotFoundError(distribution_name)
            found: str = asked(distribution_name)
            return found

        imports._version = version  # type: ignore[attr-defined]
        try:
            import pytorch_lightning  # noqa: F401
        finally:
            imports._version = asked  # type: ignore[attr-defined]


class _Absent(MetaPathFinder):
    """Finds nothing, and says of some packages that nobody else will."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages, self.thread = packages, threading.get_ident()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname.partition(".")[0] in self.packages and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{fullname} is left out of this import", name=fullname)
