"""What the machine offers, and the arithmetic that is chosen for it."""

from __future__ import annotations

import os
import platform
from typing import Literal

Precision = Literal["32-true", "bf16-mixed"]


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
