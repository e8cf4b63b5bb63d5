"""The cost of finished stages, measured again: some steps of each, warm, in turns.

A stage's recorded wall time is as much the machine's as its own where others worked on it meanwhile. Here each stage
runs its own first steps once more, from the same inputs, in a folder that is thrown away; the stages take turns, so
that what the machine does meanwhile falls on all of them alike. What is measured is seconds per FLOP, and the stage's
cost is that times its recorded FLOPs. The finished stage is not touched.
"""

import gc
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.arms import STAGE_BY_NAME, START, Stage, cost_stages
from bench.cost.cpu import CpuMeter
from bench.cost.flops import FlopCounter, synchronize
from bench.errors import ConfigError
from bench.pipeline.engine import Engine
from bench.progress import say

ROUNDS = 3
WARM, TIMED = 2, 5
"""Steps of a stage in one round: before the clock runs, and while it does."""
SHARE = 0.1
"""Of its FLOPs that a stage without steps, such as the sweep for DPO's reference log-probs, runs; half of them warm."""


class Enough(Exception):
    """Ends a stage's training: what was to be timed has been."""


class Mark(NamedTuple):
    flops: int
    seconds: float


@dataclass(frozen=True)
class Remeasured:
    """Of one stage: wall seconds by each round, and devices."""

    rounds_s: list[float]
    devices: int

    def to_dict(self) -> dict[str, Any]:
        return {"wall_s": median(self.rounds_s), "rounds_s": self.rounds_s}


def stages_of(arms: Sequence[str]) -> list[Stage]:
    """The stages that arms need beyond the SFT model, each once."""
    names = dict.fromkeys(name for arm in arms if arm != START for name in cost_stages(arm))
    return [STAGE_BY_NAME[name] for name in names]


def require_one_process(count: int) -> None:
    """Several processes that share a run's steps cannot be stopped in the middle of it.

    Raises:
        ConfigError: there are several.
    """
    if count > 1:
        raise ConfigError(f"remeasure: is for one process, not {count}; run it without a launcher")


def remeasured(engine: Engine, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Arm -> "device_hours", "rounds" (the same by each round), "other_load" (share of the processors' time that others
    took meanwhile) and "stages" (wall_s, rounds_s), of the arms that have stages of their own."""
    stages = stages_of(arms)
    costs = {stage.name: engine.finished(stage).cost for stage in stages}
    say(f"measuring again what {', '.join(costs)} cost: {ROUNDS} rounds of {WARM} + {TIMED} steps of each")
    meter = CpuMeter()
    per_flop: dict[str, list[float]] = {name: [] for name in costs}
    for _ in range(ROUNDS):
        for stage in stages:
            per_flop[stage.name].append(seconds_per_flop(engine, stage, costs[stage.name].flops))
    load = meter.read().other_load
    found = {
        name: Remeasured([rate * costs[name].flops for rate in rates], costs[name].devices)
        for name, rates in per_flop.items()
    }
    return {
        arm: _of_arm([found[name] for name in names], load)
        | {"stages": {name: found[name].to_dict() for name in names}}
        for arm in arms
        if arm != START and (names := cost_stages(arm))
    }


def _of_arm(stages: Sequence[Remeasured], load: float | None) -> dict[str, Any]:
    rounds = [
        sum(seconds * stage.devices for seconds, stage in zip(of_round, stages, strict=True)) / 3600
        for of_round in zip(*(stage.rounds_s for stage in stages), strict=True)
    ]
    hours = sum(median(stage.rounds_s) * stage.devices for stage in stages) / 3600
    return {"device_hours": hours, "rounds": rounds, "other_load": load}


def seconds_per_flop(engine: Engine, stage: Stage, flops: int) -> float:
    """Of the stage's steps after the first ones; 0 for a stage that multiplies nothing.

    Args:
        flops: of the whole stage.
    """
    clock = _Clock(engine, None if stage.settings else SHARE * flops)
    with tempfile.TemporaryDirectory(prefix="remeasure-") as folder, clock.counter, suppress(Enough):
        engine.again(stage, Path(folder), clock.on_rows)
    gc.collect()
    return clock.rate()


class _Clock:
    """Marks FLOPs and seconds at a stage's first product and behind each step, and stops it after enough of them."""

    def __init__(self, engine: Engine, most_flops: float | None) -> None:
        """`most_flops`: of a stage without steps, whose products are its steps."""
        self._device, self._most = engine.device, most_flops
        self.counter = FlopCounter(self._on_product)
        self._marks: list[Mark] = []

    def on_rows(self, rows: Sequence[Any]) -> None:
        self._mark()
        if len(rows) >= WARM + TIMED:
            raise Enough

    def _on_product(self) -> None:
        if not self._marks:
            self._mark()
        elif self._most is not None and self.counter.total >= self._most * len(self._marks) / 2:
            self._mark()
            if len(self._marks) > 2:
                raise Enough

    def _mark(self) -> None:
        synchronize(self._device)
        self._marks.append(Mark(self.counter.total, time.perf_counter()))

    def rate(self) -> float:
        """Seconds per FLOP between the mark behind the warm steps and the last one; of a short stage from the first."""
        if len(self._marks) < 2:
            return 0.0
        warm = WARM if self._most is None else 1
        first, last = self._marks[min(warm, len(self._marks) - 2)], self._marks[-1]
        return (last.seconds - first.seconds) / max(last.flops - first.flops, 1)
