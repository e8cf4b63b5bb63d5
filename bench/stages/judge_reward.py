"""The judge's reward model: the same recipe, but pairs that no arm saw, and another seed."""

from typing import TYPE_CHECKING, Any

from bench.records import ComparisonData
from bench.stages import reward
from bench.stages.reward import build

if TYPE_CHECKING:
    from bench.config import RunConfig

__all__ = ["build", "needs"]


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {**reward.needs(config, data), "pairs": data.preferences["judge"], "seed": config.seed + 1}
