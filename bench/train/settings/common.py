"""Settings that trainers share. How long each trains is the budget's, which both arms share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.validation import require

RolledOutOn = Literal["pairs", "demonstrations", "both"]
"""Whose posts a trainer samples on: of the training pairs, of the demonstrations, or of both."""
PLACES: Mapping[RolledOutOn, tuple[str, ...]] = {
    "pairs": ("preferences/train",),
    "demonstrations": ("demonstrations/train",),
    "both": ("preferences/train", "demonstrations/train"),
}
"""The data that it then reads, as `bench.arms.Stage.reads` names it."""
Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup"]
CHECKPOINT_EVERY_S = 300.0
"""Seconds of work that a kill may lose."""


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
    max_grad_norm: float | None = 1.0
    lora_rank: int = 0
    lora_alpha: int = 32
    lora_4bit: bool = False
    activation_checkpointing: bool = False

    @property
    def largest_norm(self) -> float:
        """What gradients are scaled down to: infinity is none."""
        return math.inf if self.max_grad_norm is None else self.max_grad_norm

    # The group's name in the config, for messages.
    @property
    def group(self) -> str:
        return type(self).__name__.removesuffix("Settings").lower()

    def __post_init__(self) -> None:
        group = self.group
        require(self.learning_rate > 0, f"{group}.learning_rate", self.learning_rate, "must be above 0")
        require(self.batch_size >= 1, f"{group}.batch_size", self.batch_size, "must be at least 1")
        require(self.micro_batch_size >= 1, f"{group}.micro_batch_size", self.micro_batch_size, "must be at least 1")
        require(self.warmup_steps >= 0, f"{group}.warmup_steps", self.warmup_steps, "must be 0 or above")
        require(self.eps > 0, f"{group}.eps", self.eps, "must be above 0")
        require(self.weight_decay >= 0, f"{group}.weight_decay", self.weight_decay, "must be 0 or above")
        require(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            f"{group}.max_grad_norm",
            self.max_grad_norm,
            "must be above 0, or null for no clipping",
        )
        require(self.lora_rank >= 0, f"{group}.lora_rank", self.lora_rank, "must be 0 (train all weights) or above")
        require(self.lora_alpha > 0, f"{group}.lora_alpha", self.lora_alpha, "must be above 0")
        require(
            self.lora_rank > 0 or not self.lora_4bit, f"{group}.lora_4bit", self.lora_4bit, "needs a lora_rank above 0"
        )
        schedules = ("linear", "cosine", "constant", "constant_with_warmup")
        require(
            self.schedule in schedules, f"{group}.schedule", self.schedule, f"must be one of {', '.join(schedules)}"
        )
        require(
            self.optimizer in ("adamw", "rmsprop"), f"{group}.optimizer", self.optimizer, "must be adamw or rmsprop"
        )


def accumulation_steps(settings: OptimizerSettings, processes: int) -> int:
    """Micro-batches of one process per optimizer step: `batch_size` is that of all processes together."""
    require(
        settings.batch_size % (settings.micro_batch_size * processes) == 0,
        f"{settings.group}.batch_size",
        settings.batch_size,
        f"must be a multiple of micro_batch_size ({settings.micro_batch_size}) x {processes} processes",
    )
    return settings.batch_size // (settings.micro_batch_size * processes)


@dataclass(frozen=True)
class BudgetedSettings(OptimizerSettings):
    """Trainers that put rows of similar length into one micro-batch: rows and tokens of a backward pass are bounded."""

    micro_batch_tokens: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.micro_batch_tokens is None or self.micro_batch_tokens >= 1,
            f"{self.group}.micro_batch_tokens",
            self.micro_batch_tokens,
            "must be at least 1, or null for no limit",
        )


def rows_per_process(settings: OptimizerSettings, processes: int) -> int:
    """Rows of one process per optimizer step: `batch_size` is that of all processes together."""
    require(
        settings.batch_size % processes == 0,
        f"{settings.group}.batch_size",
        settings.batch_size,
        f"must be a multiple of the {processes} processes",
    )
    return settings.batch_size // processes


def share_of_batch(settings: OptimizerSettings, processes: int) -> tuple[int, int]:
    """(rows that a process's trainer takes at once, how often per step): once where it cuts the rows itself."""
    if isinstance(settings, BudgetedSettings):
        return rows_per_process(settings, processes), 1
    return settings.micro_batch_size, accumulation_steps(settings, processes)


def require_rolled_out_on(group: str, prompts: str) -> None:
    require(prompts in PLACES, f"{group}.prompts", prompts, f"must be one of {', '.join(PLACES)}")
