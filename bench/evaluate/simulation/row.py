"""What a simulated world came to, beside what was promised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.evaluate.power import POWER
from bench.evaluate.statistics import ALPHA

COVERAGE = (1 - ALPHA - 0.02, 1 - ALPHA + 0.02)
POWERED = (POWER - 0.03, POWER + 0.03)
AT_MOST = (0.0, ALPHA)
"""Of decisions where there is nothing to decide."""
Rng = np.random.Generator


@dataclass(frozen=True)
class Row:
    """How often a world came out as it should: `share` of `repetitions`, which should lie in `promised`.

    `limit` says why less (or more) is promised than 93 to 97 % coverage, or what the share counts.
    """

    what: str
    world: str
    share: float
    promised: tuple[float, float]
    repetitions: int
    limit: str = ""

    @property
    def ok(self) -> bool:
        low, high = self.promised
        return low - 1e-9 <= self.share <= high + 1e-9


@dataclass(frozen=True)
class Study:
    """Worlds that are simulated together: `measure` (repetitions, generator) gives their rows, of at least as many
    repetitions."""

    name: str
    measure: Callable[[int, Rng], list[Row]]


def share_of(outcomes: Sequence[bool] | np.ndarray) -> float:
    return float(np.mean(np.asarray(outcomes, dtype=np.float64)))


def holds(ends: Sequence[float] | None, truth: float) -> bool:
    """Whether an interval, where there is one, holds the truth."""
    return ends is not None and ends[0] - 1e-12 <= truth <= ends[1] + 1e-12
