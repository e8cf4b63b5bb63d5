"""What a stage cost, measured where it runs: wall and CPU time, device-hours, peak memory, FLOPs, energy, and how busy
the machine was with other work meanwhile."""

import ctypes
import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil
import torch

from bench.cost.cpu import CpuMeter
from bench.cost.energy import EnergyMeter
from bench.cost.flops import FlopCounter, seconds_at_peak, synchronize

_SAMPLE_EVERY_S = 0.05
_SAMPLING_SHARE = 0.005  # of a core, at most, for taking samples
_GIB = 1024**3
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@dataclass
class StageCost:
    """One stage's cost. Times in seconds and hours, memory in GiB (2^30 bytes).

    `cpu_s` is the processor time of this process and its children; `other_load` the share of the processors' time, 0 to
    1, that other processes took meanwhile (None where the block was too short to tell): what moved the wall time.
    `gpu_hours` is 0 on a CPU. `peak_memory_gib` is the device allocator's peak on a GPU and equals `peak_rss_gib` on a
    CPU. `models_resident` counts the networks that the stage holds at once. `flops` is what `FlopCounter` counts;
    `mfu` is its share of `gemm_tflops` (TFLOP/s, the fastest matrix products measured on this device in the stage's
    dtypes) over the wall time: None without FLOPs or when the stage failed. `energy_kwh` comes from hardware counters,
    None where they cannot be read, for which `energy_source` says why.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    other_load: float | None = None
    device_hours: float = 0.0
    gpu_hours: float = 0.0
    peak_memory_gib: float = 0.0
    peak_rss_gib: float = 0.0
    devices: int = 1
    models_resident: int = 0
    tokens_trained: int = 0
    tokens_generated: int = 0
    flops: int = 0
    mfu: float | None = None
    gemm_tflops: float | None = None
    energy_kwh: float | None = None
    energy_source: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def metered(device: torch.device, models_resident: int = 0) -> Iterator[StageCost]:
    """Measure the block; the yielded record is filled when it ends, by an exception too.

    Memory that an earlier stage freed is given back to the system first, so that its peak is not counted here. The
    first block of a process takes up to a second more after its end, for the peak that `mfu` is measured against.
    """
    _release_memory(device)
    cost = StageCost(models_resident=models_resident)
    energy, cpu = EnergyMeter(device), CpuMeter()
    flops = FlopCounter()
    sampler = _Sampler(energy.read)
    start = time.perf_counter()
    sampler.start()
    try:
        with flops:
            yield cost
    finally:
        synchronize(device)
        cost.wall_s = time.perf_counter() - start
        cost.cpu_s, cost.other_load = cpu.read()
        cost.peak_rss_gib = sampler.stop() / _GIB
        cost.device_hours = cost.wall_s * cost.devices / 3600
        on_gpu = device.type == "cuda"
        cost.gpu_hours = cost.device_hours if on_gpu else 0.0
        cost.peak_memory_gib = torch.cuda.max_memory_allocated(device) / _GIB if on_gpu else cost.peak_rss_gib
        cost.flops = flops.total
        cost.energy_kwh, cost.energy_source = energy.kwh, energy.source
    if cost.flops:
        at_peak = seconds_at_peak(flops.by_dtype, device)
        cost.mfu = at_peak / (cost.wall_s * cost.devices)
        cost.gemm_tflops = cost.flops / at_peak / 1e12


def of_all(cost: StageCost, count: int) -> StageCost:
    """Of `count` processes that shared the work evenly, from what the first one measured."""
    return replace(
        cost,
        devices=count,
        cpu_s=cost.cpu_s * count,
        device_hours=cost.device_hours * count,
        gpu_hours=cost.gpu_hours * count,
        flops=cost.flops * count,
    )


def with_earlier(cost: StageCost, earlier_s: float) -> StageCost:
    """The cost with that of earlier attempts, whose work went into the stage: at the last one's rate per second."""
    scale = 1 + earlier_s / cost.wall_s if cost.wall_s else 1.0
    return replace(
        cost,
        wall_s=cost.wall_s * scale,
        cpu_s=cost.cpu_s * scale,
        device_hours=cost.device_hours * scale,
        gpu_hours=cost.gpu_hours * scale,
        flops=round(cost.flops * scale),
        energy_kwh=None if cost.energy_kwh is None else cost.energy_kwh * scale,
    )


class _Sampler(threading.Thread):
    """Samples the resident memory of this process and what its children hold beyond it, and reads the energy counters.

    A sample is cheap until there are children, whose listing reads every process of the machine; the slower the
    samples, the rarer they are, so that they take no more than `_SAMPLING_SHARE` of a core.
    """

    def __init__(self, read_energy: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._read_energy = read_energy
        self._process = psutil.Process()
        self._done = threading.Event()
        self._mark = _high_water_mark()
        self._peak = 0
        self._known: set[int] = set()  # children of the sample before

    def run(self) -> None:
        while True:
            # CPU time: waiting for the interpreter's lock costs the block nothing.
            start = time.thread_time()
            self._sample()
            if self._done.wait(max(_SAMPLE_EVERY_S, (time.thread_time() - start) / _SAMPLING_SHARE)):
                return

    def stop(self) -> int:
        """The peak in bytes."""
        self._done.set()
        self.join()
        self._sample()
        # The system knows the process's own peak since its start: where that has risen, no sample can have missed it.
        mark = _high_water_mark()
        return max(self._peak, mark if mark > self._mark else 0)

    def _sample(self) -> None:
        self._peak = max(self._peak, self._resident())
        self._read_energy()

    def _resident(self) -> int:
        total = self._process.memory_info().rss
        children = self._process.children(recursive=True) if _has_children() else []
        for child in children:
            # Until it calls exec, a child runs in its parent's memory (vfork), all of which would count again: it is
            # counted from the second sample that it lives to see.
            if child.pid not in self._known:
                continue
            try:
                total += child.memory_full_info().uss  # a fork's RSS counts its parent's pages a second time
            except psutil.NoSuchProcess:
                continue  # it ended between the listing and the reading
        self._known = {child.pid for child in children}
        return total


def _high_water_mark() -> int:
    """Peak resident bytes of this process so far, children apart."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


def _has_children() -> bool:
    """One system call, where listing them takes milliseconds."""
    if not hasattr(os, "waitid"):
        return True  # macOS
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _release_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # not glibc: freed memory may stay counted
