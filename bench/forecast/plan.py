"""A run's plan: every stage with its time, memory and disk, and what its judges are asked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.arms import STAGE_BY_NAME, chooses
from bench.forecast.hardware import Hardware
from bench.forecast.judging import Asked
from bench.forecast.memory import GIB, Memory, Sizing
from bench.forecast.rows import RunRows
from bench.forecast.shape import ModelShape
from bench.forecast.work import EVALUATION, Counting, Work

if TYPE_CHECKING:
    from bench.config import RunConfig

_JSON_BYTES = 800  # of a completion as it is stored


@dataclass(frozen=True)
class Item:
    """A stage at one cell of the evaluation, and whether the cache holds it. What trains is the headline's."""

    stage: str
    config: "RunConfig"
    rows: RunRows
    is_cached: bool = False


@dataclass(frozen=True)
class StagePlan:
    """A stage, at all cells together.

    Attributes:
        times: at how many cells.
        cached: how many of these are in the cache, and cost nothing again.
        seconds, work: of the others.
        disk: bytes that it leaves in the cache.
    """

    name: str
    times: int
    cached: int
    seconds: float
    work: Work
    memory: Memory
    disk: float

    @property
    def is_cached(self) -> bool:
        return self.cached == self.times


@dataclass(frozen=True)
class Plan:
    """All of a run; `start_s` are the seconds before its first stage: imports, data, tokens."""

    hardware: Hardware
    stages: tuple[StagePlan, ...]
    judges: tuple[Asked, ...]
    start_s: float

    @property
    def seconds(self) -> float:
        return self.start_s + sum(stage.seconds for stage in self.stages)

    @property
    def disk(self) -> float:
        return sum(stage.disk for stage in self.stages)

    @property
    def highest(self) -> StagePlan:
        """The stage that needs most memory, of those that will run."""
        return max((s for s in self.stages if not s.is_cached), key=lambda s: s.memory.total, default=self.stages[-1])

    @property
    def fits(self) -> bool:
        return self.highest.memory.total <= self.hardware.capacity


def plan(
    items: Sequence[Item],
    shape: ModelShape,
    hardware: Hardware,
    bf16: bool,
    judges: Iterable[Asked] = (),
    start_s: float = 0.0,
) -> Plan:
    """The plan of these stages, in their order; a stage at several cells is one row."""
    names = dict.fromkeys(item.stage for item in items)
    process = hardware.speeds.process_gib * GIB if hardware.speeds is not None else 0.0
    stages = [
        _stage(name, [item for item in items if item.stage == name], shape, hardware, bf16, process) for name in names
    ]
    asked: dict[str, Asked] = {}
    for one in judges:
        asked[one.judge] = asked[one.judge] + one if one.judge in asked else one
    return Plan(hardware, tuple(stages), tuple(asked.values()), start_s)


def _stage(
    name: str, items: Sequence[Item], shape: ModelShape, hardware: Hardware, bf16: bool, process: float
) -> StagePlan:
    todo = [item for item in items if not item.is_cached]
    work = [Counting(item.config, shape, item.rows, bf16).of(name) for item in todo]
    sizes = [Sizing(item.config, shape, item.rows, bf16, process).of(name) for item in todo or items]
    return StagePlan(
        name=name,
        times=len(items),
        cached=len(items) - len(todo),
        seconds=sum(map(hardware.seconds, work)),
        work=sum(work, Work()),
        memory=max(sizes, key=lambda memory: memory.total),
        disk=sum(_disk(name, item, shape, bf16) for item in todo),
    )


def _disk(name: str, item: Item, shape: ModelShape, bf16: bool) -> float:
    """Models are kept in fp32, those on the way to them as they run (adapters are small); what was sampled, as text."""
    row = STAGE_BY_NAME.get(name)
    if row is not None and row.settings is not None:
        moments = Counting(item.config, shape, item.rows, bf16).moments_kept(name)
        width = 2.0 if bf16 and name != "rloo" else 4.0  # RLOO trains fp32 weights under autocast
        return (4.0 + width * moments) * shape.parameters
    if name == "base" or chooses(name):
        return 4.0 * shape.parameters
    if name == EVALUATION or name == "reference_logps":
        return 0.0
    samples = item.config.best_of_n.at(item.config.sampling.temperature) if name == "best_of_n" else 1
    return float(_JSON_BYTES * samples * item.rows.prompts.count)
