"""RLOO, with the episodes of PPO."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import processes
from bench.models.loading import load_reward_model
from bench.records import ComparisonData
from bench.stages.context import Built, StageContext, held_out, rollout_posts
from bench.train.context import RolloutBudget
from bench.train.rloo import train_rloo
from bench.train.samples import HeldOut
from bench.train.settings.rloo import RLOOSettings, within_budget

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "settings": config.rloo,
        "episodes": config.budget.ppo_episodes,
        "max_new_tokens": config.budget.max_completion_tokens,
        "at_once": config.sampling.batch_size,
        "prompts": rollout_posts(config.rloo.prompts, data),
        "seed": config.seed,
        **held_out(config, data),
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    settings: RLOOSettings,
    episodes: int,
    max_new_tokens: int,
    at_once: int,
    prompts: Mapping[str, str],
    seed: int,
    held_out: HeldOut | None = None,
) -> Built:
    training = context.training(seed, held_out, inputs, folder)
    policy, log = train_rloo(
        inputs["sft"],
        load_reward_model(inputs["reward"], context.device, context.frozen_dtype),
        context.tokenizer,
        list(prompts),
        settings,
        RolloutBudget(settings.temperature, episodes, max_new_tokens, at_once),
        training,
    )
    context.save(policy, folder)
    context.save_samples(training.samples, folder)
    lengths = sum(row.get("completions/mean_length") or 0.0 for row in log)
    tokens = round(lengths * within_budget(settings, episodes, processes.count()).batch_size)
    return Built(log, tokens_trained=tokens * settings.num_iterations, tokens_generated=tokens, models_resident=3)
