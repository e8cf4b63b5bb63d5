"""Settings of PPO."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from bench.train.settings.common import BudgetedSettings, RolledOutOn, require_rolled_out_on
from bench.validation import require


@dataclass(frozen=True)
class PPOSettings(BudgetedSettings):
    """PPO; `batch_size` is the episodes of one update, `micro_batch_size` what one backward pass holds."""

    prompts: RolledOutOn = "pairs"
    beta: float = 0.05
    temperature: float = 0.7
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
    reward_clip: float | None = None
    normalize_reward: bool = False
    whiten_rewards: bool = False
    whiten_advantages: bool = True
    max_approx_kl: float | None = None
    critic_warmup_updates: int = 0
    value_model: Literal["separate", "shared"] = "separate"
    rollout_engine: Literal["auto", "loop", "vllm"] = "auto"
    vllm_memory_share: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_rolled_out_on("ppo", self.prompts)
        require(self.beta >= 0, "ppo.beta", self.beta, "must be 0 (no KL pull) or above")
        require(
            self.temperature > 0,
            "ppo.temperature",
            self.temperature,
            "must be above 0, or nothing is explored",
        )
        self._check_kl_and_reward()
        require(
            self.value_model in ("separate", "shared"),
            "ppo.value_model",
            self.value_model,
            "must be separate or shared",
        )
        require(
            self.critic_warmup_updates >= 0 and (self.critic_warmup_updates == 0 or self.value_model == "separate"),
            "ppo.critic_warmup_updates",
            self.critic_warmup_updates,
            "must be at least 0, and 0 where ppo.value_model is shared: the policy's backbone would learn too",
        )
        engines = ("auto", "loop", "vllm") if find_spec("vllm") else ("auto", "loop")
        require(
            self.rollout_engine in engines,
            "ppo.rollout_engine",
            self.rollout_engine,
            "must be auto, loop, or, where vLLM is installed (pip install 'trl[vllm]'), vllm",
        )
        require(
            self.rollout_engine != "vllm" or not self.lora_4bit,
            "ppo.rollout_engine",
            self.rollout_engine,
            "must be auto or loop where ppo.lora_4bit is true: vLLM is sent whole weights",
        )
        require(
            0 < self.vllm_memory_share < 1,
            "ppo.vllm_memory_share",
            self.vllm_memory_share,
            "must be above 0 and below 1, of which PPO needs the rest",
        )
        require(self.ppo_epochs >= 1, "ppo.ppo_epochs", self.ppo_epochs, "must be at least 1")
        require(
            self.num_mini_batches >= 1 and self.batch_size % self.num_mini_batches == 0,
            "ppo.num_mini_batches",
            self.num_mini_batches,
            f"must divide ppo.batch_size ({self.batch_size})",
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
        require(
            not (self.whiten_rewards and self.kl == "full"),
            "ppo.whiten_rewards",
            self.whiten_rewards,
            "must be false where ppo.kl is full: the KL in the loss would keep its scale",
        )
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
        if self.reward_clip is not None:
            require(self.reward_clip > 0, "ppo.reward_clip", self.reward_clip, "must be above 0, or null")
        if self.max_approx_kl is not None:
            require(self.max_approx_kl > 0, "ppo.max_approx_kl", self.max_approx_kl, "must be above 0, or null")


def require_policy_updates(settings: PPOSettings, updates: int) -> None:
    """Refuse a warm-up of the critic that leaves the policy none of so many updates."""
    require(
        settings.critic_warmup_updates < updates,
        "ppo.critic_warmup_updates",
        settings.critic_warmup_updates,
        f"must be below the {updates} updates that budget.ppo_episodes and ppo.batch_size make",
    )
