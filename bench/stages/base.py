"""The model before any training, probed, in a folder like every other stage's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import write_json
from bench.models.config import ModelConfig
from bench.models.loading import base_model, content
from bench.models.probe import probe
from bench.records import ComparisonData, Demonstration
from bench.stages.context import Built, StageContext

if TYPE_CHECKING:
    from bench.config import RunConfig

PROBE = "probe.json"


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    # A tiny model's tokenizer comes from the demonstrations, so they are part of what it is.
    texts = data.demonstrations["train"] if config.model.kind == "tiny" else []
    return {"model": config.model, "seed": config.seed, "texts": texts, "content": content(config.model)}


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    model: ModelConfig,
    seed: int,
    texts: Sequence[Demonstration],
    content: str,
) -> Built:
    policy = base_model(model, context.tokenizer, seed, context.cache_dir)
    found = probe(policy, model.name, model.attn_implementation)
    context.save(policy, folder)
    write_json(folder / PROBE, found.to_dict())
    return Built()
