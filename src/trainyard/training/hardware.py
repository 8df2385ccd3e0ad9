"""What the machine offers."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DATA_SHARE = 0.25
"""Of a GPU's free memory that each split may take; the rest is for the network and what it computes."""


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """Return the number of GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()


def device_kind() -> str:
    """Return torch's name of the kind of device that Lightning trains on here: cuda, mps or cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def has_native_bf16() -> bool:
    """Say whether bfloat16 matrices are multiplied in hardware: AVX512-BF16 or AMX, or a GPU from Ampere on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_tf32() -> bool:
    """Say whether fp32 matrices can be multiplied as TF32: by a GPU from Ampere on."""
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def take_device(device: torch.device) -> None:
    """Have what this thread computes and sends go to a device.

    Each thread begins at the first GPU, whatever its process has been given, and NCCL sends from the current one: before
    anything is sent, every worker must have taken its own, or two of them meet on one GPU, and hang.
    """
    import torch

    if device.type == "cuda":
        torch.cuda.set_device(device)


def answers_late(device: torch.device) -> bool:
    """Say whether a device computes beside the host, which waits for it whenever it looks at a number."""
    return device.type != "cpu"


def seed_draws(device: torch.device, seed: int) -> None:
    """Seed what layers draw from, on the host and on the device.

    torch.manual_seed does so for all devices that there could be, and writes the caller's stack down for those that are not in
    use: half a millisecond.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def room_for_data(device: torch.device) -> int:
    """Return how many bytes of a split may live on the device that trains; 0 where that is the host, which has them mapped."""
    import torch

    return int(DATA_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


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
