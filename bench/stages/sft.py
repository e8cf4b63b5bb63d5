"""Supervised fine-tuning on the demonstrations: the common start of every arm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models.attention import wanted_of
from bench.models.config import PolicyConfig
from bench.models.given import load_given_policy, require_same_vocabulary
from bench.models.loading import folder_content, load_policy
from bench.models.probe import probe
from bench.records import ComparisonData, Demonstration
from bench.stages.context import Built, StageContext, trained
from bench.train.log import TrainingLog
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    if (given := config.given.sft) is not None:
        return {"given": given, "content": folder_content(given)}
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
    settings: SFTSettings | None = None,
    epochs: float = 0.0,
    rows: Sequence[Demonstration] = (),
    seed: int = 0,
    given: str | None = None,
    content: str = "",
) -> Built:
    """A model that is given is taken as it is, and with 0 epochs the base model."""
    if given is not None:
        policy = load_given_policy(PolicyConfig(given), context.tokenizer)
        require_same_vocabulary(policy, inputs["base"], f"given.sft ({given})")
        probe(policy, given, wanted_of(inputs["base"]))
    else:
        policy = load_policy(inputs["base"], context.device)
    log: TrainingLog = []
    if settings is not None and epochs > 0:
        log = train_sft(policy, context.tokenizer, rows, settings, context.training(seed), epochs=epochs)
    context.save(policy, folder)
    return trained(log)
