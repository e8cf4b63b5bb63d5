"""Equal tuning effort: the settings of a trial, drawn for each arm from a declared space.

Every arm gets the same number of trials, `tuning.trial=0,1,...` of a Hydra multirun. Trial 0 is the presets as given;
the others are drawn from (tuning.seed, arm, trial) alone, so that every seed of the run tries the same settings. Which
trial is best is chosen from the run folders, on validation posts (`bench.report.tuned`).
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from bench.arms import BY_NAME, STAGE_BY_NAME
from bench.validation import require

Config = TypeVar("Config")
VALIDATION = "validation"
"""The evaluation set that trials are chosen on."""


@dataclass(frozen=True)
class Space:
    """What one setting may be: a number between two, evenly on a log scale, or one of some values."""

    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        ends = None not in (self.low, self.high)
        one = ends != (self.values is not None) and (ends or (self.low is None and self.high is None))
        require(one, "tuning.space", (self.low, self.high, self.values), "must give low and high, or values")
        if self.low is not None and self.high is not None:
            require(0 < self.low < self.high, "tuning.space", (self.low, self.high), "must be 0 < low < high")
        require(self.values is None or len(self.values) > 0, "tuning.space", self.values, "must hold a value")

    def draw(self, rng: random.Random) -> float:
        """A value, to three digits."""
        if self.values is not None:
            return rng.choice(self.values)
        assert self.low is not None and self.high is not None
        return float(f"{math.exp(rng.uniform(math.log(self.low), math.log(self.high))):.3g}")


@dataclass(frozen=True)
class TuningConfig:
    """Which trial this run is, of how many, and what is drawn.

    Attributes:
        trial: None is no trial: the settings are as they are given.
        space: arm -> setting of its trainer -> what it may be.
    """

    trial: int | None = None
    trials: int = 8
    seed: int = 0
    space: Mapping[str, Mapping[str, Space]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.trials >= 1, "tuning.trials", self.trials, "must be at least 1")
        there = self.trial is None or 0 <= self.trial < self.trials
        require(there, "tuning.trial", self.trial, f"must be 0 to {self.trials - 1} (tuning.trials), or null")
        for arm in self.space:
            tuned = arm in BY_NAME and STAGE_BY_NAME[BY_NAME[arm].stage].settings is not None
            require(tuned, "tuning.space", arm, "must name arms that are trained")
        counts = {arm: len(settings) for arm, settings in self.space.items()}
        require(len(set(counts.values())) <= 1, "tuning.space", counts, "must draw as many settings of every arm")


def drawn(config: Config) -> Config:
    """A RunConfig with its trial's settings in their places; as it is where it is no trial, or trial 0.

    Raises:
        ConfigError: the space names a setting that the trainer does not have, or draws one that it refuses.
    """
    tuning: TuningConfig = config.tuning  # pyright: ignore[reportAttributeAccessIssue]
    if not tuning.trial:
        return config
    changed: dict[str, Any] = {}
    for arm, space in tuning.space.items():
        group = str(STAGE_BY_NAME[BY_NAME[arm].stage].settings)
        settings = changed.get(group, getattr(config, group))
        rng = random.Random(f"{tuning.seed}/{arm}/{tuning.trial}")
        values: dict[str, Any] = {}
        for name, of_setting in sorted(space.items()):
            require(hasattr(settings, name), "tuning.space", f"{arm}.{name}", f"must be a setting of {group}")
            value = of_setting.draw(rng)
            values[name] = int(value) if isinstance(getattr(settings, name), int) else value
        changed[group] = replace(settings, **values)
    return replace(config, **changed)  # pyright: ignore[reportArgumentType]
