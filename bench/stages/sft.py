"""Supervised fine-tuning on the demonstrations: the common start of every arm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models.loading import load_policy
from bench.records import ComparisonData, Demonstration
from bench.stages.context import Built, StageContext, trained
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "settings": config.sft,
        "epochs": config.budget.sft_epochs,
        "rows": data.demonstrations["train"],
        "seed": config.seed,
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    settings: SFTSettings,
    epochs: float,
    rows: Sequence[Demonstration],
    seed: int,
) -> Built:
    policy = load_policy(inputs["base"], context.device)
    log = train_sft(policy, context.tokenizer, rows, settings, context.training(seed), epochs=epochs)
    context.save(policy, folder)
    return trained(log)
