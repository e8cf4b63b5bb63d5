"""A run of a small built-in world, which is planned and not run."""

from typing import Any

from bench.config import BudgetConfig, RunConfig
from bench.data import SyntheticConfig
from bench.models.config import ModelConfig
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.sft import SFTSettings

_BATCH: dict[str, Any] = {"batch_size": 8, "micro_batch_size": 4}
CONFIG = RunConfig(
    data=SyntheticConfig(demonstrations=48, preference_pairs=24, judge_pairs=16, validation_pairs=8, eval_prompts=6),
    model=ModelConfig(hidden_size=32, layers=2, heads=2, vocabulary=300),
    sft=SFTSettings(**_BATCH),
    reward=RewardSettings(**_BATCH),
    ppo=PPOSettings(**_BATCH, ppo_epochs=2),
    dpo=DPOSettings(**_BATCH),
    budget=BudgetConfig(max_prompt_tokens=256, max_completion_tokens=16, ppo_episodes=16),
)
