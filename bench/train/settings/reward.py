"""Settings of the reward model."""

from dataclasses import dataclass

from bench.train.settings.common import BudgetedSettings
from bench.validation import require


@dataclass(frozen=True)
class RewardSettings(BudgetedSettings):
    """The reward model, and with the same settings on its own split the judge's reward model.

    Attributes:
        shift_rows: demonstrations whose mean score is shifted to 0, None for all; no part of the training.
    """

    shift_rows: int | None = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.shift_rows is None or self.shift_rows >= 1,
            "reward.shift_rows",
            self.shift_rows,
            "must be at least 1, or null for all",
        )
