"""Inputs of several requests answered in one call of the network, without any of them waiting for a full batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from trainyard.errors import first_line
from trainyard.serving.answers import Answer
from trainyard.serving.bad_input import BadInput
from trainyard.serving.options import Options
from trainyard.serving.predictor import Predictor
from trainyard.serving.raw_inputs import Sample


class Full(Exception):
    """More inputs wait than may."""


@dataclass(slots=True)
class _Waiting:
    predictor: Predictor
    sample: Sample
    field: str
    answer: asyncio.Future[Answer]


class Batcher:
    """The inputs that wait for one model, and the task that answers them."""

    def __init__(self, options: Options, executor: Executor, told: Callable[[int], None]) -> None:
        """Keep what to work with; `told` hears how many inputs each call answered."""
        self.options = options
        self.executor = executor
        self.told = told
        self.coming = 0
        """Requests that are about to bring inputs."""
        self.waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()

    async def answer(self, predictor: Predictor, samples: Sequence[Sample], fields: Sequence[str]) -> list[Answer]:
        """Answer to a request's samples; whoever stops waiting for it takes them out again.

        Raises:
            Full: too many wait already.
            BadInput: the network fails on one of them.
        """
        if len(self.waiting) + len(samples) > self.options.waiting:
            raise Full
        loop = asyncio.get_running_loop()
        own = [_Waiting(predictor, sample, field, loop.create_future()) for sample, field in zip(samples, fields, strict=True)]
        self.waiting.extend(own)
        self._arrived.set()
        try:
            return list(await asyncio.gather(*(one.answer for one in own)))
        finally:
            for one in own:
                one.answer.cancel()

    async def work(self) -> None:
        """Answer for as long as the task lives."""
        while True:
            await self._arrived.wait()
            if self.coming and len(self.waiting) < self.options.batch_inputs:
                await asyncio.sleep(self.options.batch_seconds)
            batch = self._take()
            if not self.waiting:
                self._arrived.clear()
            if batch:
                self.told(len(batch))
                await self._answer(batch)

    def _take(self) -> list[_Waiting]:
        """Return the first that wait for the same network, as many as one call may answer."""
        batch: list[_Waiting] = []
        numbers = 0
        while self.waiting and len(batch) < self.options.batch_inputs:
            first = self.waiting[0]
            if first.answer.done():
                self.waiting.popleft()
                continue
            numbers += first.sample.array.size
            if batch and (first.predictor is not batch[0].predictor or numbers > self.options.batch_numbers):
                break
            batch.append(self.waiting.popleft())
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        predictor = batch[0].predictor
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self.executor, predictor.answer, [one.sample for one in batch])
        except Exception as error:  # onnxruntime has exceptions of its own, without a parent
            if len(batch) > 1:
                # One of them may be at fault; the others are not to suffer from it.
                for one in batch:
                    await self._answer([one])
                return
            reason = first_line(error)
            _settle(batch[0], BadInput(batch[0].field, f"the network fails on it ({reason})", "try another one", "no-answer"))
            return
        for one, answer in zip(batch, answers, strict=True):
            _settle(one, answer)


def _settle(one: _Waiting, outcome: Answer | BadInput) -> None:
    # Whoever waited may be gone.
    with suppress(asyncio.InvalidStateError):
        if isinstance(outcome, BadInput):
            one.answer.set_exception(outcome)
        else:
            one.answer.set_result(outcome)
