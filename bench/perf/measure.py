"""One contender, once: what a worker process does and what it reports."""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.files import write_json
from bench.provenance import git_state, package_versions

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Spec:
    """What a worker is told. `steps` counts the first one, which warms up and is not timed."""

    contender: str
    task: str
    dtype: str
    model: str
    reward_model: str
    pairs: str
    batch_size: int
    micro_batch_tokens: int | None
    steps: int
    max_new_tokens: int
    threads: int
    profile: bool = False


@dataclass
class Measurement:
    """What a worker reports. `units` are pairs, episodes or tokens of one step; the first step is the warm-up."""

    step_s: list[float] = field(default_factory=list)
    units: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    reference_s: float = 0.0  # DPO's reference pass over all pairs of all steps, where it is done beforehand
    peak_memory_gib: float = 0.0
    flops: dict[str, int] = field(default_factory=dict)  # of all steps and the reference pass, by dtype; not of peers
    operators: list[tuple[str, float]] = field(default_factory=list)  # name, self CPU seconds; under the profiler only


class StepClock:
    """Seconds between the ends of steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = time.perf_counter()

    def start(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def peak_memory_gib() -> float:
    """The process's peak resident memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def provenance() -> dict[str, Any]:
    """Machine, commit and package versions, for the record."""
    machine = {"cpu": _cpu_name(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {"machine": machine, "git": git_state(), "packages": package_versions()}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def worker_main(run: Callable[[Spec], Measurement]) -> None:
    """Read the spec named by the first argument, measure, and write the result where the second says."""
    spec = Spec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    measurement = run(spec)
    measurement.peak_memory_gib = measurement.peak_memory_gib or peak_memory_gib()
    result: dict[str, Any] = asdict(measurement)
    write_json(Path(sys.argv[2]), result)
