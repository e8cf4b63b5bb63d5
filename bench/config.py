"""One run: what is compared, with which budget, and where the results go."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.arms import BY_NAME, DEFAULT_ARMS, REFERENCE, START, needed
from bench.cost.config import CostConfig
from bench.data import ControlledConfig, DataConfig, SyntheticConfig
from bench.data.evaluation_sets import EvalSetConfig
from bench.evaluate.best_of_n import BestOfNSettings
from bench.evaluate.config import EvaluationConfig
from bench.evaluate.judges.config import JudgeConfig
from bench.generation import SamplingConfig
from bench.models.config import GivenConfig, ModelConfig, PolicyConfig
from bench.progress import say
from bench.train.health.settings import HealthSettings
from bench.train.settings.common import CHECKPOINT_EVERY_S, OptimizerSettings, share_of_batch
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.iterated_dpo import IteratedDPOSettings, rounds_within
from bench.train.settings.ppo import PPOSettings, require_policy_updates
from bench.train.settings.reward import RewardSettings
from bench.train.settings.rloo import RLOOSettings, within_budget
from bench.train.settings.samples import SamplesSettings
from bench.train.settings.sft import SFTSettings
from bench.tuning import TuningConfig
from bench.validation import require


@dataclass(frozen=True)
class BudgetConfig:
    """What both arms may use: the same pairs, prompts, lengths and passes. None takes all there is."""

    demonstrations: int | None = None
    pairs: int | None = None
    judge_pairs: int | None = None
    validation_pairs: int | None = None
    eval_prompts: int | None = None
    max_prompt_tokens: int = 512
    max_completion_tokens: int = 53
    sft_epochs: float = 1.0
    reward_epochs: float = 1.0
    dpo_epochs: float = 1.0
    ppo_episodes: int = 1536

    def __post_init__(self) -> None:
        for name in ("demonstrations", "pairs", "judge_pairs", "validation_pairs", "eval_prompts"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"budget.{name}", value, "must be at least 1, or null for all")
        for name in ("max_prompt_tokens", "max_completion_tokens", "ppo_episodes"):
            require(getattr(self, name) >= 1, f"budget.{name}", getattr(self, name), "must be at least 1")
        for name in ("reward_epochs", "dpo_epochs"):
            require(getattr(self, name) > 0, f"budget.{name}", getattr(self, name), "must be above 0")
        require(self.sft_epochs >= 0, "budget.sft_epochs", self.sft_epochs, "must be 0 (no SFT) or above")


@dataclass(frozen=True)
class RunConfig:
    """A whole run, resolved."""

    seed: int = 0
    name: str = "builtin"
    arms: tuple[str, ...] = DEFAULT_ARMS
    results_dir: str = "results"
    run_id: str | None = None
    label: str | None = None
    checkpoint_every_s: float = CHECKPOINT_EVERY_S
    threads: int | None = None
    remeasure: bool = False
    report_to: str = "none"
    data: DataConfig = field(default_factory=SyntheticConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    policies: Mapping[str, PolicyConfig] = field(default_factory=dict)
    given: GivenConfig = field(default_factory=GivenConfig)
    sft: SFTSettings = field(default_factory=SFTSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    ppo: PPOSettings = field(default_factory=PPOSettings)
    dpo: DPOSettings = field(default_factory=DPOSettings)
    rloo: RLOOSettings = field(default_factory=RLOOSettings)
    iterated_dpo: IteratedDPOSettings = field(default_factory=IteratedDPOSettings)
    best_of_n: BestOfNSettings = field(default_factory=BestOfNSettings)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    samples_in_training: SamplesSettings = field(default_factory=SamplesSettings)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    health: HealthSettings = field(default_factory=HealthSettings)
    sets: Mapping[str, EvalSetConfig] = field(default_factory=dict)
    tuning: TuningConfig = field(default_factory=TuningConfig)

    @property
    def learning(self) -> tuple[OptimizerSettings, ...]:
        """The settings of every trainer."""
        return self.sft, self.reward, self.dpo, self.ppo, self.rloo

    def __post_init__(self) -> None:
        object.__setattr__(self, "results_dir", os.path.expanduser(self.results_dir))
        # NumPy takes seeds below 2**32, and the judge's reward model takes seed + 1.
        require(0 <= self.seed < 2**32 - 1, "seed", self.seed, f"must be at least 0 and below {2**32 - 1}")
        require(self.checkpoint_every_s >= 0, "checkpoint_every_s", self.checkpoint_every_s, "must be 0 or above")
        require(self.threads is None or self.threads >= 1, "threads", self.threads, "must be at least 1, or null")
        trackers = ("none", "tensorboard", "trackio", "wandb")
        require(self.report_to in trackers, "report_to", self.report_to, f"must be one of {', '.join(trackers)}")
        for name in self.policies:
            free = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None and name not in (*BY_NAME, REFERENCE)
            require(free, "policies", name, "must be a plain name (letters, digits, _ -) that no arm has")
        unknown = [arm for arm in self.arms if arm not in (*BY_NAME, *self.policies)]
        require(not unknown, "arms", list(self.arms), f"must be among {', '.join((*BY_NAME, *self.policies))}")
        require(len(set(self.arms)) == len(self.arms), "arms", list(self.arms), "must not repeat an arm")
        require(START in self.arms, "arms", list(self.arms), f"must contain {START}, where every arm starts")
        for key, value in (("name", self.name), ("run_id", self.run_id)):
            plain = value is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value) is not None
            require(plain, key, value, "must be a plain folder name (letters, digits, . _ -)")
        safe = self.label is None or re.fullmatch(r"[A-Za-z0-9._=+-]*", self.label) is not None
        require(safe, "label", self.label, "must be safe in a folder's name (letters, digits, . _ = + -)")
        gold_missing = "gold" in self.judge.names and not isinstance(self.data, SyntheticConfig | ControlledConfig)
        require(
            not gold_missing,
            "judge.names",
            list(self.judge.names),
            "has gold, which needs data=synthetic or data=controlled; use judge=reward_model",
        )
        chooses = self.samples_in_training.keep_best
        choosers = [spec.name for spec in self.judge.specs if spec.kind != "human"]  # people are asked once
        require(
            chooses is None or chooses in choosers,
            "samples_in_training.keep_best",
            chooses,
            f"must be null or a judge of the run that is no person ({', '.join(choosers)})",
        )
        for name, wanted in self.sets.items():
            plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", name) is not None and name != "test"
            require(plain, "sets", name, "must be a plain name (letters, digits, _) other than test, the headline's")
            has_truth = isinstance(wanted.data, SyntheticConfig | None) or isinstance(self.data, ControlledConfig)
            judged = has_truth or self.judge.names != ("gold",)
            require(judged, f"sets.{name}.data", wanted.data, "has no truth for the judge gold; name another judge too")
        require(
            "iterated_dpo" not in self.arms or not self.dpo.lora_4bit,
            "dpo.lora_4bit",
            self.dpo.lora_4bit,
            "must be false with the arm iterated_dpo, whose later rounds start elsewhere than at their reference",
        )
        tokens = self.budget.max_prompt_tokens + self.budget.max_completion_tokens
        fits = self.model.kind != "tiny" or tokens <= self.model.max_positions
        require(
            fits,
            "budget.max_prompt_tokens + budget.max_completion_tokens",
            tokens,
            f"must fit model.max_positions ({self.model.max_positions})",
        )


def check_batches(config: RunConfig, processes: int) -> None:
    """Refuse a batch that so many processes cannot share, for each TRL trainer that the run needs; say where PPO's
    batch is more than its budget.

    Raises:
        ConfigError: names the batch size.
    """
    judges = ["judge_reward"] if "reward_model" in config.judge.names else []
    episodes, batch = config.budget.ppo_episodes, config.ppo.batch_size
    if "ppo" in config.arms and batch > episodes:
        say(
            f"ppo.batch_size is {batch:,}, but budget.ppo_episodes allows {episodes:,} episodes in all: PPO makes one"
            f" update, of {episodes:,}"
        )
    if "iterated_dpo" in config.arms:
        rounds_within(config.iterated_dpo, episodes)
    if "ppo" in config.arms:
        require_policy_updates(config.ppo, episodes // min(batch, episodes))
    for group in dict.fromkeys(stage.settings for stage in needed(config.arms, *judges)):
        if group in (None, "ppo"):
            continue
        settings = getattr(config, str(group))
        if isinstance(settings, RLOOSettings):
            settings = within_budget(settings, config.budget.ppo_episodes, processes)
        share_of_batch(settings, processes)
