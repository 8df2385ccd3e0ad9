"""A model that is served: the file it came from, the predictor that answers now, and the next one that takes its place."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from pathlib import Path

from trainyard.errors import TrainyardError
from trainyard.serving.batching import Batcher
from trainyard.serving.measures import Measures
from trainyard.serving.options import Options
from trainyard.serving.predictor import FILES, Predictor, Variant

FileState = tuple[int, int, int]


class Served:
    """One model by its name. What is asked of one predictor is answered by it, also when another has taken its place."""

    def __init__(self, name: str, path: Path, variant: Variant, threads: int) -> None:
        """Load a model.

        Raises:
            InputError, IntegrityError: as `Predictor.load`.
        """
        self.name, self.variant, self.threads = name, variant, threads
        self.path = path / FILES[variant] if path.is_dir() else path
        self.state = self._state()
        self.predictor = Predictor.load(self.path, variant, threads)
        self.problem = ""
        """Why the file that is there now does not answer, where it does not."""

    def begin(self, options: Options, executor: Executor, measures: Measures) -> None:
        """Make ready to answer."""
        self.measures = measures
        batches = measures.batches.labels(self.name)
        self.batcher = Batcher(options, executor, batches.observe)
        measures.waiting.labels(self.name).set_function(lambda: len(self.batcher.waiting))
        self._say_who_answers()

    async def reload(self, executor: Executor, force: bool = False) -> bool:
        """Take the file that is there now, once it is sure that it answers; return whether it was taken.

        A file that is damaged, or missing, leaves the one before at work.
        """
        state = self._state()
        if state is None or (state == self.state and not force):
            return False
        self.state = state
        loop = asyncio.get_running_loop()
        try:
            predictor = await loop.run_in_executor(executor, Predictor.load, self.path, self.variant, self.threads)
        except TrainyardError as error:
            return self._keep(str(error))
        if predictor.signature.kind != self.predictor.signature.kind:
            return self._keep(f"{self.path}: is for {predictor.signature.kind}, start the server anew for it")
        self.predictor, self.problem = predictor, ""
        self.measures.reloads.labels(self.name, "taken").inc()
        self._say_who_answers()
        return True

    def _keep(self, problem: str) -> bool:
        self.problem = problem
        self.measures.reloads.labels(self.name, "refused").inc()
        return False

    def _say_who_answers(self) -> None:
        signature = self.predictor.signature
        known = {"fingerprint": signature.fingerprint, "sha256": signature.sha256, "kind": signature.kind}
        self.measures.models.labels(self.name).info(known)

    def _state(self) -> FileState | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
