"""DPO on the preference pairs, against the SFT model's log-probs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import read_jsonl
from bench.records import ComparisonData, PreferencePair
from bench.stages.context import Built, StageContext, held_out, trained
from bench.stages.reference_logps import LOGPS
from bench.train.dpo import PairLogps, needs_ref_logps, train_dpo
from bench.train.samples import HeldOut
from bench.train.settings.dpo import DPOSettings

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "settings": config.dpo,
        "epochs": config.budget.dpo_epochs,
        "pairs": data.preferences["train"],
        "seed": config.seed,
        **held_out(config, data),
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    settings: DPOSettings,
    epochs: float,
    pairs: Sequence[PreferencePair],
    seed: int,
    held_out: HeldOut | None = None,
) -> Built:
    training = context.training(seed, held_out, inputs, folder)
    precomputed = needs_ref_logps(context.bf16, settings.lora_4bit)
    ref_logps = [PairLogps(**row) for row in read_jsonl(inputs["reference_logps"] / LOGPS)] if precomputed else None
    policy, log = train_dpo(
        inputs["sft"],
        context.tokenizer,
        pairs,
        ref_logps,
        settings,
        training,
        epochs=epochs,
    )
    context.save(policy, folder)
    context.save_samples(training.samples, folder)
    return trained(log, models_resident=1 if precomputed or settings.lora_rank else 2)
