"""What the machine offers, and the arithmetic that is chosen for it."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["32-true", "bf16-mixed"]
DATA_SHARE = 0.25
"""Of a GPU's free memory that each split may take; the rest is for the network and what it computes."""


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """Return the number of GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()


def has_native_bf16() -> bool:
    """Say whether bfloat16 matrices are multiplied in hardware: AVX512-BF16 or AMX, or a GPU from Ampere on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def take_device(device: torch.device) -> None:
    """Have what this thread computes and sends go to a device.

    Each thread begins at the first GPU, whatever its process has been given, and NCCL sends from the current one: before
    anything is sent, every worker must have taken its own, or two of them meet on one GPU, and hang.
    """
    import torch

    if device.type == "cuda":
        torch.cuda.set_device(device)


def room_for_data(device: torch.device) -> int:
    """Return how many bytes of a split may live on the device that trains; 0 where that is the host, which has them mapped."""
    import torch

    return int(DATA_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def choose_precision(wanted: Literal["auto", "fp32", "bf16"]) -> tuple[Precision, str]:
    """Return Lightning's name of the arithmetic, and why it was chosen."""
    if wanted == "fp32":
        return "32-true", "fp32, as the recipe says"
    if wanted == "bf16":
        return "bf16-mixed", "bf16, as the recipe says"
    if has_native_bf16():
        return "bf16-mixed", "bf16, which this hardware multiplies natively"
    return "32-true", "fp32, as this hardware has no native bf16"


def describe() -> dict[str, str]:
    """Return the facts about this machine that a run records."""
    import torch

    facts = {
        "machine.platform": platform.platform(),
        "machine.processors": str(processors()),
        "machine.python": platform.python_version(),
        "machine.torch": torch.__version__,
    }
    if torch.cuda.is_available():
        facts["machine.gpu"] = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return facts
