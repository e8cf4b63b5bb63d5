"""Settings of supervised fine-tuning."""

from dataclasses import dataclass

from bench.train.settings.common import BudgetedSettings


@dataclass(frozen=True)
class SFTSettings(BudgetedSettings):
    """Supervised fine-tuning on the demonstrations, loss on the completion alone unless the post counts too."""

    completion_only: bool = True
