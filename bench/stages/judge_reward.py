"""The judge's reward model: the same recipe, but pairs that no arm saw, and another seed."""

from typing import TYPE_CHECKING, Any

from bench.records import ComparisonData
from bench.stages import reward
from bench.stages.reward import build

if TYPE_CHECKING:
    from bench.config import RunConfig

__all__ = ["build", "needs"]


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    if (given := config.given.judge_reward) is not None:
        return reward.needs_of_given(config, data, given)
    return {**reward.needs_to_train(config, data), "pairs": data.preferences["judge"], "seed": config.seed + 1}
