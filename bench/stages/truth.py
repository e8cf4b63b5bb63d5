"""What says which known reward a stage asks."""

from typing import Any

from bench.data.config import KnownRewardConfig
from bench.data.controlled import scorer_code
from bench.models.loading import content_of_settings


def truth_of(reward: KnownRewardConfig) -> tuple[Any, ...]:
    """Its settings, its code, and the content of the files that the settings name."""
    return reward, scorer_code(reward), content_of_settings(reward.settings)
