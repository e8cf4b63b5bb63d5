"""What a stage cost, measured where it runs: wall and CPU time, device-hours, peak memory, FLOPs, energy, and how busy
the machine was with other work meanwhile."""

import ctypes
import gc
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
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
    None where they cannot be read, for which `energy_source` says why. The fields `apart_` are of what was done within
    the block but is not part of it (`apart`); no other field contains that.
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
    apart_wall_s: float = 0.0
    apart_device_hours: float = 0.0
    apart_flops: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def metered(device: torch.device, models_resident: int = 0) -> Iterator[StageCost]:
    """Measure the block; the yielded record is filled when it ends, by an exception too.

    Memory that an earlier stage freed is given back to the system first, so that its peak is not counted here. The
    first block of a process takes up to a second more after its end, for the peak that `mfu` is measured against.
    """
    _release_memory(device)
    cost, meter = StageCost(models_resident=models_resident), _Meter(device)
    _METERS.append(meter)
    own = meter.own
    try:
        with meter.flops:
            yield cost
    finally:
        _METERS.remove(meter)
        meter.close(own)
        cost.wall_s, cost.cpu_s, cost.other_load = own.wall_s, own.cpu_s, meter.cpu.read().other_load
        cost.peak_rss_gib = own.rss / _GIB
        cost.device_hours = cost.wall_s * cost.devices / 3600
        on_gpu = device.type == "cuda"
        cost.gpu_hours = cost.device_hours if on_gpu else 0.0
        cost.peak_memory_gib = own.allocated / _GIB if on_gpu else cost.peak_rss_gib
        cost.flops = own.flops.total()
        cost.energy_kwh = None if meter.energy.kwh is None else own.kwh
        cost.energy_source = meter.energy.source
        cost.apart_wall_s, cost.apart_flops = meter.apart.wall_s, meter.apart.flops.total()
        cost.apart_device_hours = cost.apart_wall_s * cost.devices / 3600
    if cost.flops:
        at_peak = seconds_at_peak(own.flops, device)
        cost.mfu = at_peak / (cost.wall_s * cost.devices)
        cost.gemm_tflops = cost.flops / at_peak / 1e12


@contextmanager
def apart() -> Iterator[None]:
    """What is done in here is measured apart from the metered block around it: as its `apart_*`, and nowhere else.

    The memory that it leaves behind is given back before the block goes on. Outside of a metered block it does nothing.
    """
    if not _METERS:
        yield
        return
    meter = _METERS[-1]
    meter.next(meter.own)
    try:
        yield
    finally:
        _release_memory(meter.device)
        meter.next(meter.apart)


@dataclass
class _Used:
    """What went into a part of a block: seconds, FLOPs by dtype, kWh, and peak bytes, resident and allocated."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    flops: Counter[torch.dtype] = field(default_factory=Counter)
    kwh: float = 0.0
    rss: int = 0
    allocated: int = 0


class _Meter:
    """A block in stretches, each of which counts as the block's own or as apart from it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.own, self.apart = device, _Used(), _Used()
        self.energy, self.cpu, self.flops = EnergyMeter(device), CpuMeter(), FlopCounter()
        self._before = self._read()
        self._sampler = self._sampling()

    def next(self, used: _Used) -> None:
        """End a stretch, which was `used`'s, and begin another."""
        self.close(used)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._before = self._read()
        self._sampler = self._sampling()

    def close(self, used: _Used) -> None:
        """Add what the last stretch took."""
        synchronize(self.device)
        now, before = self._read(), self._before
        used.rss = max(used.rss, self._sampler.stop())
        if self.device.type == "cuda":
            used.allocated = max(used.allocated, torch.cuda.max_memory_allocated(self.device))
        used.wall_s += now.wall_s - before.wall_s
        used.cpu_s += now.cpu_s - before.cpu_s
        used.flops.update(now.flops - before.flops)
        used.kwh += (self.energy.kwh or 0.0) - before.kwh

    def _read(self) -> _Used:
        """The counters as they stand."""
        flops = Counter(self.flops.by_dtype)
        return _Used(time.perf_counter(), self.cpu.read().own_s, flops, self.energy.kwh or 0.0)

    def _sampling(self) -> "_Sampler":
        sampler = _Sampler(self.energy.read)
        sampler.start()
        return sampler


_METERS: list[_Meter] = []
"""Of the blocks that are measured now, the inner ones last."""


def of_all(cost: StageCost, count: int) -> StageCost:
    """Of `count` processes that shared the work evenly, from what the first one measured."""
    return replace(
        cost,
        devices=count,
        cpu_s=cost.cpu_s * count,
        device_hours=cost.device_hours * count,
        gpu_hours=cost.gpu_hours * count,
        flops=cost.flops * count,
        apart_device_hours=cost.apart_device_hours * count,
        apart_flops=cost.apart_flops * count,
    )


def with_earlier(cost: StageCost, earlier_s: float) -> StageCost:
    """The cost with that of earlier attempts, whose work went into the stage: at the last one's rate per second."""
    passed = cost.wall_s + cost.apart_wall_s
    scale = 1 + earlier_s / passed if passed else 1.0
    return replace(
        cost,
        wall_s=cost.wall_s * scale,
        cpu_s=cost.cpu_s * scale,
        device_hours=cost.device_hours * scale,
        gpu_hours=cost.gpu_hours * scale,
        flops=round(cost.flops * scale),
        energy_kwh=None if cost.energy_kwh is None else cost.energy_kwh * scale,
        apart_wall_s=cost.apart_wall_s * scale,
        apart_device_hours=cost.apart_device_hours * scale,
        apart_flops=round(cost.apart_flops * scale),
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
