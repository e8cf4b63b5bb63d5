"""Settings of the four trainers. How long each trains is the budget's, which both arms share."""

from dataclasses import dataclass
from typing import Literal

from bench.validation import require

Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup"]
DPO_LOSSES = ("sigmoid", "ipo", "hinge", "robust", "sigmoid_norm")


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW (or RMSprop, as in the DPO paper) and the batch it sees."""

    learning_rate: float = 3e-6
    batch_size: int = 64
    micro_batch_size: int = 64
    schedule: Schedule = "cosine"
    warmup_steps: float = 0.0
    optimizer: Literal["adamw", "rmsprop"] = "adamw"
    eps: float = 1e-5
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    # The group's name in the config, for messages.
    @property
    def group(self) -> str:
        return type(self).__name__.removesuffix("Settings").lower()

    def __post_init__(self) -> None:
        group = self.group
        require(self.learning_rate > 0, f"{group}.learning_rate", self.learning_rate, "must be above 0")
        require(self.batch_size >= 1, f"{group}.batch_size", self.batch_size, "must be at least 1")
        require(
            self.micro_batch_size >= 1 and self.batch_size % self.micro_batch_size == 0,
            f"{group}.micro_batch_size",
            self.micro_batch_size,
            f"must divide {group}.batch_size ({self.batch_size})",
        )
        require(self.warmup_steps >= 0, f"{group}.warmup_steps", self.warmup_steps, "must be 0 or above")
        require(self.eps > 0, f"{group}.eps", self.eps, "must be above 0")
        require(self.weight_decay >= 0, f"{group}.weight_decay", self.weight_decay, "must be 0 or above")
        require(self.max_grad_norm > 0, f"{group}.max_grad_norm", self.max_grad_norm, "must be above 0")
        schedules = ("linear", "cosine", "constant", "constant_with_warmup")
        require(
            self.schedule in schedules, f"{group}.schedule", self.schedule, f"must be one of {', '.join(schedules)}"
        )
        require(
            self.optimizer in ("adamw", "rmsprop"), f"{group}.optimizer", self.optimizer, "must be adamw or rmsprop"
        )


@dataclass(frozen=True)
class SFTSettings(OptimizerSettings):
    """Supervised fine-tuning on the demonstrations, loss on the completion alone."""


@dataclass(frozen=True)
class RewardSettings(OptimizerSettings):
    """The reward model, and with the same settings on its own split the judge's reward model."""


@dataclass(frozen=True)
class DPOSettings(OptimizerSettings):
    beta: float = 0.1
    loss_type: str = "sigmoid"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, "dpo.beta", self.beta, "must be above 0")
        require(
            self.loss_type in DPO_LOSSES, "dpo.loss_type", self.loss_type, f"must be one of {', '.join(DPO_LOSSES)}"
        )
        require(0 <= self.label_smoothing < 0.5, "dpo.label_smoothing", self.label_smoothing, "must be in [0, 0.5)")


@dataclass(frozen=True)
class PPOSettings(OptimizerSettings):
    """PPO; `batch_size` is the episodes of one update, `micro_batch_size` what one backward pass holds."""

    beta: float = 0.05
    ppo_epochs: int = 4
    num_mini_batches: int = 1
    gamma: float = 1.0
    lam: float = 0.95
    clip_range: float = 0.2
    value_clip_range: float = 0.2
    vf_coef: float = 0.1
    value_learning_rate: float | None = None
    missing_eos_score: float | None = -1.0
    whiten_advantages: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta >= 0, "ppo.beta", self.beta, "must be 0 (no KL pull) or above")
        require(self.ppo_epochs >= 1, "ppo.ppo_epochs", self.ppo_epochs, "must be at least 1")
        require(
            self.num_mini_batches >= 1
            and self.batch_size % self.num_mini_batches == 0
            and (self.batch_size // self.num_mini_batches) % self.micro_batch_size == 0,
            "ppo.num_mini_batches",
            self.num_mini_batches,
            f"must cut ppo.batch_size ({self.batch_size}) into multiples of micro_batch_size ({self.micro_batch_size})",
        )
        require(0 < self.gamma <= 1, "ppo.gamma", self.gamma, "must be in (0, 1]")
        require(0 <= self.lam <= 1, "ppo.lam", self.lam, "must be in [0, 1]")
        require(self.clip_range > 0, "ppo.clip_range", self.clip_range, "must be above 0")
        require(self.value_clip_range > 0, "ppo.value_clip_range", self.value_clip_range, "must be above 0")
        require(self.vf_coef > 0, "ppo.vf_coef", self.vf_coef, "must be above 0")
        if self.value_learning_rate is not None:
            require(
                self.value_learning_rate > 0, "ppo.value_learning_rate", self.value_learning_rate, "must be above 0"
            )
