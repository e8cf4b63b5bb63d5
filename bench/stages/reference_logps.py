"""What DPO needs of the SFT model: a sweep over DPO's settings computes it once.

Nothing where DPO runs the SFT model beside its policy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import processes
from bench.files import write_jsonl
from bench.models.loading import load_policy
from bench.progress import StageBar
from bench.records import ComparisonData, PreferencePair
from bench.stages.context import Built, StageContext
from bench.train.dpo import needs_ref_logps, pair_logps

if TYPE_CHECKING:
    from bench.config import RunConfig

LOGPS = "logps.jsonl"


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {"pairs": data.preferences["train"], "batch_size": config.sampling.batch_size}


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    pairs: Sequence[PreferencePair],
    batch_size: int,
) -> Built:
    if not needs_ref_logps(context.bf16):
        return Built(models_resident=0)
    model = load_policy(inputs["sft"], context.device)
    own = processes.own(pairs)
    with context.autocast(), StageBar(context.name, len(own), "pairs") as bar:
        share = pair_logps(model, context.tokenizer, own, batch_size, bar.update)
    logps = processes.put_together(share)
    if processes.is_main():
        write_jsonl(folder / LOGPS, [pair._asdict() for pair in logps])
    return Built()
