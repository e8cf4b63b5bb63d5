"""PPO against the reward model. On the posts of the pairs neither arm sees a post that the other does not."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench import processes
from bench.records import ComparisonData
from bench.stages.context import Built, StageContext, held_out, rollout_posts
from bench.train.context import RolloutBudget
from bench.train.ppo import PPOTrainer
from bench.train.ppo_models import load_ppo_models
from bench.train.ppo_rollouts import PromptIds
from bench.train.samples import HeldOut
from bench.train.settings.ppo import PPOSettings

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "settings": config.ppo,
        "episodes": config.budget.ppo_episodes,
        "max_new_tokens": config.budget.max_completion_tokens,
        "at_once": config.sampling.batch_size,
        "prompts": rollout_posts(config.ppo.prompts, data),
        "seed": config.seed,
        **held_out(config, data),
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    settings: PPOSettings,
    episodes: int,
    max_new_tokens: int,
    at_once: int,
    prompts: Mapping[str, str],
    seed: int,
    held_out: HeldOut | None = None,
) -> Built:
    training = context.training(seed, held_out, inputs, folder)
    models = load_ppo_models(
        inputs["sft"],
        inputs["reward"],
        settings,
        # Whole networks need not fit on the device where each process is to hold a share.
        device=torch.device("cpu") if processes.shard_weights() else context.device,
        frozen_dtype=context.frozen_dtype,
        seed=seed,
    )
    if processes.shard_weights():
        models.shard(context.device, context.bf16)
    trainer = PPOTrainer(
        models,
        context.tokenizer,
        settings,
        RolloutBudget(settings.temperature, episodes, max_new_tokens, at_once),
        training,
    )
    token_ids = [PromptIds(name, context.tokenizer(text).input_ids) for text, name in prompts.items()]
    log = trainer.train(token_ids, context.gold)
    context.save(models.trained_policy(), folder)
    context.save_samples(training.samples, folder)
    sampled = sum(row["length_tokens"] or 0.0 for row in log) * trainer.batch_size
    return Built(
        log,
        tokens_trained=round(sampled * settings.ppo_epochs),
        tokens_generated=round(sampled),
        models_resident=models.count,
    )
