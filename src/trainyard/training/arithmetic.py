"""The arithmetic of a training: the fastest that the hardware is sure of, or, where the recipe says so, the exact one.

What is chosen follows from the recipe, the kind of data and the machine alone, so a training that goes on computes as it did
before. fp16 is never chosen: it needs a scale of the loss, and overflows where bf16 does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from trainyard.data.raw import Kind
from trainyard.errors import MachineError
from trainyard.tasks.train_config import TrainConfig
from trainyard.training.compiling import COMPILERS, has_compiler
from trainyard.training.hardware import device_kind, has_native_bf16, has_tf32

Precision = Literal["32-true", "bf16-mixed"]
IMAGES: tuple[Kind, ...] = ("image_classification", "segmentation")
REPEATING: tuple[Kind, ...] = (*IMAGES, "forecasting")
"""Kinds of data whose batches have one shape; texts are as long as the longest of each batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the choice depends on."""

    device: str
    """As torch names its kind: cpu, cuda, mps."""
    bf16: bool
    """Whether bfloat16 matrices are multiplied in hardware."""
    tf32: bool
    """Whether fp32 matrices can be multiplied with 10 bits of mantissa, eight times as fast."""
    threads: int
    """Of torch, on the host."""
    compiler: bool = True
    """Whether there is one for what torch generates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What was chosen."""

    precision: Precision
    """As Lightning names it."""
    tf32: bool
    autotune: bool
    """cuDNN tries its algorithms on the first batch of each shape, and takes the fastest."""
    channels_last: bool
    """Images and weights lie in memory with the channels of a pixel side by side, as convolutions read them."""
    compiled: Literal["no", "yes", "if it pays"]
    deterministic: bool
    reasons: tuple[str, ...]
    """What was chosen, in words, each with its reason."""

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def this_machine() -> Machine:
    """Return what the choice depends on here."""
    return Machine(
        device=device_kind(), bf16=has_native_bf16(), tf32=has_tf32(), threads=torch.get_num_threads(), compiler=has_compiler()
    )


def choose(config: TrainConfig, kind: Kind, machine: Machine) -> Arithmetic:
    """Return the arithmetic of a training.

    Raises:
        MachineError: the recipe wants the network compiled, and there is no compiler.
    """
    precision, why = choose_precision(config.precision, native=machine.bf16)
    gpu = machine.device == "cuda"
    # Where the recipe wants fp32, it gets all of its 23 bits; torch itself would let convolutions take TF32.
    tf32 = gpu and machine.tf32 and config.precision != "fp32"
    autotune = gpu and not config.deterministic and kind in REPEATING
    channels_last = kind in IMAGES
    reasons = [why]
    if gpu and machine.tf32:
        reasons.append("the rest in TF32" if tf32 else "no TF32")
    if channels_last:
        reasons.append("channels last")
    if config.deterministic:
        reasons.append("only algorithms that give the same bits each time")
    elif autotune:
        reasons.append("cuDNN's algorithms by trial, as all batches have one shape")
    elif gpu:
        reasons.append("cuDNN's algorithms without trial, as batches differ in shape")
    compiled, why = choose_compiling(config, kind, machine)
    reasons.append(why)
    if not gpu:
        reasons.append(f"{machine.threads} thread{'s' if machine.threads > 1 else ''}")
    return Arithmetic(
        precision=precision,
        tf32=tf32,
        autotune=autotune,
        channels_last=channels_last,
        compiled=compiled,
        deterministic=config.deterministic,
        reasons=tuple(reasons),
    )


def choose_precision(wanted: Literal["auto", "fp32", "bf16"], *, native: bool) -> tuple[Precision, str]:
    """Return Lightning's name of the arithmetic, and why it was chosen."""
    if wanted == "fp32":
        return "32-true", "fp32, as the recipe says"
    if wanted == "bf16":
        return "bf16-mixed", "bf16, as the recipe says"
    if native:
        return "bf16-mixed", "bf16, which this hardware multiplies natively"
    return "32-true", "fp32, as this hardware has no native bf16"


def choose_compiling(config: TrainConfig, kind: Kind, machine: Machine) -> tuple[Literal["no", "yes", "if it pays"], str]:
    """Return whether the network is compiled, and why."""
    if config.compile == "never":
        return "no", "not compiled, as the recipe says"
    if config.compile == "always":
        if not machine.compiler:
            raise MachineError(f"train.compile: always needs a C++ compiler, found none of {', '.join(COMPILERS)}; use auto")
        return "yes", "compiled, as the recipe says"
    if config.deterministic:
        # When to compile is up to a clock, and so is what compiled code does on a GPU.
        return "no", "not compiled, as deterministic: true"
    if kind not in IMAGES:
        return "no", "not compiled, as recurrent layers gain nothing"
    if not machine.compiler:
        return "no", "not compiled, as there is no C++ compiler"
    return "if it pays", "compiled if the first steps show that it pays"


def prepare_torch(arithmetic: Arithmetic) -> None:
    """Set torch's switches that Lightning does not set."""
    # In deterministic mode, torch fills all new memory with NaN, to find programs that read what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device_kind() == "cuda":
        torch.set_float32_matmul_precision("high" if arithmetic.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = arithmetic.tf32
