"""Settings of the reward model."""

from dataclasses import dataclass

from bench.train.settings.common import BudgetedSettings


@dataclass(frozen=True)
class RewardSettings(BudgetedSettings):
    """The reward model, and with the same settings on its own split the judge's reward model."""
