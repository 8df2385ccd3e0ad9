"""Faults on demand, to see whether a training survives them: TRAINYARD_FAULT=kill:rank1:step17:phase=backward

Parts in this order, several faults separated by commas:
  kill, stop, segv, abort, exit, raise, hang or nan   what happens; nan goes with phase=forward
  rank1           to which worker; all of them without it
  step17          in which optimizer step, counted from 1; save, report and validation: in the first one from there on
  phase=backward  forward, backward, reduce, step, save, report or validation
  repeat          in every attempt; without it once, which a file in the training's scratch folder remembers
  settled         each checkpoint is durable before the training goes on, so that it is known what the fault leaves behind
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from trainyard.data.batches import Batch
from trainyard.errors import InputError

VARIABLE = "TRAINYARD_FAULT"
Action = Literal["kill", "stop", "segv", "abort", "exit", "raise", "hang", "nan"]
Phase = Literal["forward", "backward", "reduce", "step", "save", "report", "validation"]
LATER = ("save", "report", "validation")
"""Phases that not every step has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is to go wrong."""

    action: Action
    phase: Phase
    step: int
    rank: int | None = None
    repeat: bool = False
    settled: bool = False


def parse(text: str) -> list[Fault]:
    """Return the faults that the variable asks for.

    Raises:
        InputError: it cannot be read.
    """
    form = re.compile(
        r"(?P<action>\w+)(:rank(?P<rank>\d+))?:step(?P<step>\d+):phase=(?P<phase>\w+)(?P<repeat>:repeat)?(?P<settled>:settled)?"
    )
    faults = []
    for part in filter(None, text.split(",")):
        found = form.fullmatch(part)
        if (
            not found
            or found["action"] not in get_args(Action)
            or found["phase"] not in get_args(Phase)
            or (found["action"] == "nan" and found["phase"] != "forward")
        ):
            raise InputError(
                f"{VARIABLE}: found {part}, expected such as kill:rank1:step17:phase=backward, with one of "
                f"{', '.join(get_args(Action))} and one of {', '.join(get_args(Phase))}; correct it, or unset it"
            )
        rank = None if found["rank"] is None else int(found["rank"])
        faults.append(
            Fault(
                action=found["action"],  # type: ignore[arg-type]
                phase=found["phase"],  # type: ignore[arg-type]
                step=int(found["step"]),
                rank=rank,
                repeat=bool(found["repeat"]),
                settled=bool(found["settled"]),
            )
        )
    return faults


class Faults(pl.Callback):
    """Lets faults happen to this worker, in the midst of what they are to interrupt."""

    def __init__(self, faults: list[Fault], folder: Path, rank: int) -> None:
        self.faults = [fault for fault in faults if fault.rank in (None, rank)]
        self.settled = any(fault.settled for fault in faults)
        self.folder = folder
        self.rank = rank
        self.step = 0

    def at(self, phase: Phase, step: int | None = None) -> bool:
        """Let the fault of a phase happen, if it is time; return whether the numbers are to be spoilt."""
        step = self.step if step is None else step
        for fault in self.faults:
            on_time = step >= fault.step if phase in LATER else step == fault.step
            if fault.phase == phase and on_time and (fault.repeat or self._first(fault)):
                self.faults = [other for other in self.faults if other is not fault]
                return _happen(fault)
        return False

    # Lightning's hooks, in its order.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trained = [parameter for parameter in pl_module.parameters() if parameter.requires_grad]
        pl_module.network.register_forward_hook(self._forward)  # type: ignore[union-attr]
        trained[len(trained) // 2].register_hook(lambda gradient: self._gradient("backward"))  # type: ignore[no-untyped-call]
        # The gradient that comes last: the other workers have theirs, and wait for it in the reduction.
        trained[0].register_hook(lambda gradient: self._gradient("reduce"))  # type: ignore[no-untyped-call]
        trainer.optimizers[0].register_step_post_hook(lambda *_: self._gradient("step"))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int) -> None:
        self.step = trainer.global_step + 1
        callbacks = trainer.callbacks if self.settled else []  # type: ignore[attr-defined]
        for callback in callbacks:
            if (saver := getattr(callback, "saver", None)) is not None:
                # No other worker gets through this step before rank 0 takes part in it.
                saver.drain()

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        self.at("validation")

    def _forward(self, network: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return output * torch.nan if network.training and self.at("forward") else None

    def _gradient(self, phase: Phase) -> None:
        self.at(phase)

    def _first(self, fault: Fault) -> bool:
        name = f"fault-{fault.action}-{fault.phase}-{fault.step}-rank{self.rank}"
        try:
            (self.folder / name).open("x").close()
        except FileExistsError:
            return False
        return True


_active: list[Faults] = []


def install(folder: Path, rank: int) -> list[Faults]:
    """Return the callback that the environment asks for; none, at no cost, where it asks for none.

    Raises:
        InputError: the variable cannot be read.
    """
    faults = parse(os.environ.get(VARIABLE, ""))
    _active[:] = [Faults(faults, folder, rank)] if faults else []
    return list(_active)


def point(phase: Literal["save", "report"], step: int) -> None:
    """Mark a place outside Lightning's hooks at which a fault may happen, on behalf of what step it is reached."""
    for faults in _active:
        faults.at(phase, step)


def _happen(fault: Fault) -> bool:
    match fault.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "segv":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(1)
        case "raise":
            raise RuntimeError(f"a fault on demand: {fault}")
        case "hang":
            # Called through PyDLL, which keeps the interpreter's lock: no other thread runs any more.
            ctypes.PyDLL(None).sleep(10**6)
        case "nan":
            return True
    return False
