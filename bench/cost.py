"""What a stage cost, measured where it runs: wall time, device-hours, GPU-hours, peak memory."""

import ctypes
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch

_SAMPLE_EVERY_S = 0.05
_GIB = 1024**3


@dataclass
class StageCost:
    """One stage's cost. Times in seconds and hours, memory in GiB (2^30 bytes).

    `gpu_hours` is 0 on a CPU. `peak_memory_gib` is the device allocator's peak on a GPU and equals `peak_rss_gib` on a
    CPU. `models_resident` counts the networks that the stage holds at once.
    """

    wall_s: float = 0.0
    device_hours: float = 0.0
    gpu_hours: float = 0.0
    peak_memory_gib: float = 0.0
    peak_rss_gib: float = 0.0
    devices: int = 1
    models_resident: int = 0
    tokens_trained: int = 0
    tokens_generated: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def metered(device: torch.device, models_resident: int = 0) -> Iterator[StageCost]:
    """Measure the block; the yielded record is filled when it ends.

    Memory that an earlier stage freed is given back to the system first, so that its peak is not counted here.
    """
    _release_memory(device)
    cost = StageCost(models_resident=models_resident)
    peak = _PeakRSS()
    start = time.perf_counter()
    peak.start()
    try:
        yield cost
    finally:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        cost.wall_s = time.perf_counter() - start
        cost.peak_rss_gib = peak.stop() / _GIB
        cost.device_hours = cost.wall_s * cost.devices / 3600
        on_gpu = device.type == "cuda"
        cost.gpu_hours = cost.device_hours if on_gpu else 0.0
        cost.peak_memory_gib = torch.cuda.max_memory_allocated(device) / _GIB if on_gpu else cost.peak_rss_gib


class _PeakRSS(threading.Thread):
    """Samples the resident memory of this process and what its children hold beyond it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process()
        self._done = threading.Event()
        self._peak = 0

    def run(self) -> None:
        while True:
            self._peak = max(self._peak, self._resident())
            if self._done.wait(_SAMPLE_EVERY_S):
                return

    def stop(self) -> int:
        """The peak in bytes."""
        self._done.set()
        self.join()
        return max(self._peak, self._resident())

    def _resident(self) -> int:
        total = self._process.memory_info().rss
        for child in self._process.children(recursive=True):
            try:
                total += child.memory_full_info().uss  # a fork's RSS counts its parent's pages a second time
            except psutil.NoSuchProcess:
                continue  # it ended between the listing and the reading
        return total


def _release_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # not glibc: freed memory may stay counted
