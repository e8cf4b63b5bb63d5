"""The reward model that PPO, RLOO and best of n go by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import processes
from bench.models.attention import wanted_of
from bench.models.given import load_given_reward
from bench.models.loading import RewardModel, folder_content, new_reward_model, save_reward_model
from bench.models.probe import probe_reward
from bench.records import ComparisonData, Demonstration, PreferencePair
from bench.scoring import reward_scores
from bench.special_tokens import pad_id
from bench.stages.context import Built, StageContext, trained
from bench.train.log import TrainingLog
from bench.train.reward import train_reward_model
from bench.train.settings.reward import RewardSettings

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    if (given := config.given.reward) is not None:
        return needs_of_given(config, data, given)
    return needs_to_train(config, data)


def needs_to_train(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "settings": config.reward,
        "epochs": config.budget.reward_epochs,
        "pairs": data.preferences["train"],
        "references": data.demonstrations["train"][: config.reward.shift_rows],
        "batch_size": config.sampling.batch_size,
        "seed": config.seed,
    }


def needs_of_given(config: "RunConfig", data: ComparisonData, given: str) -> dict[str, Any]:
    return {
        "given": given,
        "content": folder_content(given),
        "references": data.demonstrations["train"][: config.reward.shift_rows],
        "batch_size": config.sampling.batch_size,
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    references: Sequence[Demonstration],
    batch_size: int,
    settings: RewardSettings | None = None,
    epochs: float = 0.0,
    pairs: Sequence[PreferencePair] = (),
    seed: int = 0,
    given: str | None = None,
    content: str = "",
) -> Built:
    """The mean score of the reference summaries is shifted to 0 (as N+ does). A model that is given is not trained."""
    log: TrainingLog = []
    if given is not None:
        model = load_given_reward(given, f"given.{context.name}", context.tokenizer, context.device)
        probe_reward(model, f"given.{context.name} ({given})", wanted_of(inputs["sft"]))
    else:
        assert settings is not None
        model = new_reward_model(inputs["sft"], pad_id(context.tokenizer), seed, context.device)
        log = train_reward_model(model, context.tokenizer, pairs, settings, context.training(seed), epochs=epochs)
    if processes.is_main():
        reward = RewardModel(model.eval())
        summaries = [(row.prompt, row.completion) for row in references]
        with context.autocast(), context.bar(len(summaries), "summaries", "shift") as bar:
            scores = reward_scores(reward, context.tokenizer, summaries, batch_size, bar.update)
        reward.shift = sum(scores) / len(scores)
        save_reward_model(reward, context.tokenizer, folder)
    return trained(log)
