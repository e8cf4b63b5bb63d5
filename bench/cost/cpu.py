"""Processor time: what this process and its children used, and what others took from the same processors meanwhile."""

import os
import time
from collections.abc import Iterable
from typing import NamedTuple

import psutil

_SHORTEST_S = 0.5
"""The system counts processor time in hundredths of a second: over less than this, shares of it mean little."""


class CpuUse(NamedTuple):
    """`own_s`: seconds of this process and its children. `other_load`: share of the processors' time that others took,
    0 to 1, or None over too short a time."""

    own_s: float
    other_load: float | None


class CpuMeter:
    """Processor time from now on. `processors` are those that this process may run on.

    Of several processes that a launcher started (`accelerate launch`), the others are no others: they are subtracted.
    """

    def __init__(self) -> None:
        self._processors = _usable_processors()
        self._start = time.perf_counter()
        self._own, self._run, self._busy = _own_s(), _run_s(), self._busy_s()

    def read(self) -> CpuUse:
        """What was used since the meter was made."""
        wall_s = time.perf_counter() - self._start
        own, run, busy = _own_s() - self._own, _run_s() - self._run, self._busy_s() - self._busy
        if wall_s < _SHORTEST_S:
            return CpuUse(own, None)
        share = (busy - run) / (wall_s * len(self._processors))
        return CpuUse(own, min(max(share, 0.0), 1.0))

    def _busy_s(self) -> float:
        """Seconds in which the processors did anything; other machines on the same hardware (steal) count too."""
        times = psutil.cpu_times(percpu=True)
        return sum(_busy_of(times[index]) for index in self._processors if index < len(times))


def _busy_of(times: object) -> float:
    """Guests' time is in `user` already; waiting for a disk leaves a processor free."""
    fields = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(getattr(times, field, 0.0) for field in fields)


def _usable_processors() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(psutil.cpu_count() or 1))


def _own_s() -> float:
    return _tree_s(psutil.Process())


def _run_s() -> float:
    """Of all processes of the run on this machine: those of one launcher, or this one alone."""
    together = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
    return _tree_s(psutil.Process(os.getppid()) if together else psutil.Process())


def _tree_s(root: psutil.Process) -> float:
    """Seconds of a process and its children, ended ones included: a parent that waited for a child carries its time."""
    return sum(_process_s(process) for process in (root, *_children(root)))


def _children(root: psutil.Process) -> Iterable[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.NoSuchProcess:
        return ()


def _process_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # it ended just now
    return times.user + times.system + times.children_user + times.children_system
