"""The smallest run that has all of a run's parts."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.config import BudgetConfig, RunConfig
from bench.data import SyntheticConfig
from bench.evaluate.config import EvaluationConfig
from bench.models.config import ModelConfig
from bench.pipeline.runner import run
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.sft import SFTSettings

sys.path.insert(0, str(Path(__file__).parent))  # kill_at_random, which tests and people run

_BATCH = {"batch_size": 4, "micro_batch_size": 4, "learning_rate": 1e-2}
SMALLEST = RunConfig(
    data=SyntheticConfig(demonstrations=16, preference_pairs=8, judge_pairs=8, validation_pairs=8, eval_prompts=4),
    model=ModelConfig(hidden_size=32, layers=1, heads=2, vocabulary=300),
    sft=SFTSettings(**_BATCH),
    reward=RewardSettings(**_BATCH),
    ppo=PPOSettings(**_BATCH, ppo_epochs=1),
    dpo=DPOSettings(**_BATCH),
    budget=BudgetConfig(max_prompt_tokens=256, max_completion_tokens=8, ppo_episodes=4),
    evaluation=EvaluationConfig(bootstrap_resamples=100),
)


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., RunConfig]:
    """make_config(field=value, ...): the smallest run with these fields changed, its results below tmp_path."""

    def make(**changes: object) -> RunConfig:
        return replace(SMALLEST, **{"results_dir": str(tmp_path / "results"), **changes})

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """The smallest run, finished: its config and its folder. Not to be changed."""
    config = replace(SMALLEST, results_dir=str(tmp_path_factory.mktemp("results")))
    return config, run(config, "the command")
