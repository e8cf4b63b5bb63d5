"""Settings of DPO."""

from dataclasses import dataclass

from bench.train.settings.common import BudgetedSettings
from bench.validation import require

DPO_LOSSES = ("sigmoid", "ipo", "hinge", "robust", "sigmoid_norm")


@dataclass(frozen=True)
class DPOSettings(BudgetedSettings):
    beta: float = 0.1
    loss_type: str = "sigmoid"
    label_smoothing: float = 0.0
    sft_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, "dpo.beta", self.beta, "must be above 0")
        require(
            self.loss_type in DPO_LOSSES, "dpo.loss_type", self.loss_type, f"must be one of {', '.join(DPO_LOSSES)}"
        )
        require(0 <= self.label_smoothing < 0.5, "dpo.label_smoothing", self.label_smoothing, "must be in [0, 0.5)")
        require(
            self.loss_type == "sigmoid" or (self.label_smoothing > 0) == (self.loss_type == "robust"),
            "dpo.label_smoothing",
            self.label_smoothing,
            "must be above 0 with loss_type=robust, and 0 with every other but sigmoid, which would not read it",
        )
        require(self.sft_weight >= 0, "dpo.sft_weight", self.sft_weight, "must be 0 (no such term) or above")
