"""Settings of the trainers. How long each trains is the budget's, which both arms share."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

from bench.validation import require

Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup"]
CHECKPOINT_EVERY_S = 300.0
"""Seconds of work that a kill may lose."""
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


@dataclass(frozen=True)
class SFTSettings(BudgetedSettings):
    """Supervised fine-tuning on the demonstrations, loss on the completion alone."""


@dataclass(frozen=True)
class RewardSettings(BudgetedSettings):
    """The reward model, and with the same settings on its own split the judge's reward model."""


@dataclass(frozen=True)
class DPOSettings(BudgetedSettings):
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
        require(
            (self.label_smoothing > 0) == (self.loss_type == "robust"),
            "dpo.label_smoothing",
            self.label_smoothing,
            "must be above 0 with loss_type=robust and 0 with every other, which would not read it",
        )


@dataclass(frozen=True)
class RLOOSettings(OptimizerSettings):
    """RLOO; `batch_size` is the completions of one update, `num_generations` of them for each prompt."""

    beta: float = 0.05
    num_generations: int = 4
    missing_eos_score: float | None = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta >= 0, "rloo.beta", self.beta, "must be 0 (no KL pull) or above")
        require(
            self.num_generations >= 2 and self.batch_size % self.num_generations == 0,
            "rloo.num_generations",
            self.num_generations,
            f"must be at least 2 and divide rloo.batch_size ({self.batch_size})",
        )


def within_budget(settings: RLOOSettings, episodes: int, processes: int) -> RLOOSettings:
    """The settings with a batch that the budget holds: fewer episodes than a batch are one update of that many.

    Raises:
        ConfigError: such a batch does not hold whole groups on each process.
    """
    batch = min(settings.batch_size, episodes)
    require(
        batch % (settings.num_generations * processes) == 0,
        "rloo.num_generations",
        settings.num_generations,
        f"x {processes} processes must divide an update's {batch} episodes",
    )
    return replace(settings, batch_size=batch, micro_batch_size=min(settings.micro_batch_size, batch // processes))


@dataclass(frozen=True)
class PPOSettings(BudgetedSettings):
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
    kl: Literal["k1", "full"] = "k1"
    kl_target: float | None = None
    kl_horizon: int = 10_000
    missing_eos: Literal["replace", "subtract"] = "replace"
    missing_eos_score: float | None = -1.0
    normalize_reward: bool = False
    whiten_advantages: bool = True
    max_approx_kl: float | None = None
    value_model: Literal["separate", "shared"] = "separate"
    lora_rank: int = 0
    lora_alpha: int = 32
    rollout_engine: Literal["auto", "loop", "vllm"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta >= 0, "ppo.beta", self.beta, "must be 0 (no KL pull) or above")
        self._check_kl_and_reward()
        require(
            self.value_model in ("separate", "shared"),
            "ppo.value_model",
            self.value_model,
            "must be separate or shared",
        )
        require(self.lora_rank >= 0, "ppo.lora_rank", self.lora_rank, "must be 0 (train all weights) or above")
        require(self.lora_alpha > 0, "ppo.lora_alpha", self.lora_alpha, "must be above 0")
        engines = ("auto", "loop", "vllm") if find_spec("vllm") else ("auto", "loop")
        require(
            self.rollout_engine in engines,
            "ppo.rollout_engine",
            self.rollout_engine,
            "must be auto, loop, or, where vLLM is installed (pip install 'trl[vllm]'), vllm",
        )
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

    def _check_kl_and_reward(self) -> None:
        require(self.kl in ("k1", "full"), "ppo.kl", self.kl, "must be k1 or full")
        if self.kl_target is not None:
            require(
                self.kl_target > 0 and self.beta > 0,
                "ppo.kl_target",
                self.kl_target,
                "must be above 0, with ppo.beta above 0 to start from (or null for a fixed beta)",
            )
        require(
            self.kl_horizon >= self.batch_size,
            "ppo.kl_horizon",
            self.kl_horizon,
            f"must be at least ppo.batch_size ({self.batch_size})",
        )
        require(
            self.missing_eos in ("replace", "subtract"),
            "ppo.missing_eos",
            self.missing_eos,
            "must be replace or subtract",
        )
        if self.missing_eos == "subtract" and self.missing_eos_score is not None:
            require(
                self.missing_eos_score < 0,
                "ppo.missing_eos_score",
                self.missing_eos_score,
                "must be below 0 where ppo.missing_eos is subtract (or null for no penalty)",
            )
        if self.max_approx_kl is not None:
            require(self.max_approx_kl > 0, "ppo.max_approx_kl", self.max_approx_kl, "must be above 0, or null")
