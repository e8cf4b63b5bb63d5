"""The SFT model trained further on the chosen summaries, as often as DPO sees the pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import ComparisonData, Demonstration
from bench.stages import sft
from bench.stages.context import Built, StageContext
from bench.train.settings.sft import SFTSettings

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "settings": config.sft,
        "epochs": config.budget.dpo_epochs,
        "rows": [Demonstration(pair.id, pair.prompt, pair.chosen) for pair in data.preferences["train"]],
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
    start = {"base": inputs["sft"]}
    return sft.build(context, start, folder, settings=settings, epochs=epochs, rows=rows, seed=seed)
