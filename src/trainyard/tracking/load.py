"""The machine's load while it trains, under MLflow's own names, so that its page of system metrics shows it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from trainyard.tracking import limits


class Load:
    """Samples the load now and then, in a thread."""

    def __init__(self, log: Callable[[Mapping[str, float]], None]) -> None:
        self._log = log
        self._over = threading.Event()
        self._network = psutil.net_io_counters()
        psutil.cpu_percent()  # it counts from the call before
        self._thread = threading.Thread(target=self._sample, name="load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        cards = _gpus()
        while not self._over.wait(limits.LOAD_SECONDS):
            memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(os.sep), psutil.net_io_counters()
            values = {
                "cpu_utilization_percentage": psutil.cpu_percent(),
                "system_memory_usage_megabytes": memory.used / 1e6,
                "system_memory_usage_percentage": 100 * memory.used / memory.total,
                "disk_usage_percentage": disk.percent,
                "disk_usage_megabytes": disk.used / 1e6,
                "disk_available_megabytes": disk.free / 1e6,
                "network_receive_megabytes": (network.bytes_recv - self._network.bytes_recv) / 1e6,
                "network_transmit_megabytes": (network.bytes_sent - self._network.bytes_sent) / 1e6,
                **{key: value for number, card in enumerate(cards) for key, value in _gpu(number, card).items()},
            }
            self._log({f"system/{key}": round(float(value), 1) for key, value in values.items()})


def _gpus() -> list[Any]:
    """Return the GPUs' handles, where NVIDIA's library is installed."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no library, no driver, no card: its errors have no common base without it
        return []


def _gpu(number: int, card: Any) -> dict[str, float]:
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(card)
        return {
            f"gpu_{number}_memory_usage_percentage": 100 * memory.used / memory.total,
            f"gpu_{number}_memory_usage_megabytes": memory.used / 1e6,
            f"gpu_{number}_utilization_percentage": pynvml.nvmlDeviceGetUtilizationRates(card).gpu,
            f"gpu_{number}_power_usage_watts": pynvml.nvmlDeviceGetPowerUsage(card) / 1000,
        }
    except pynvml.NVMLError:
        return {}
