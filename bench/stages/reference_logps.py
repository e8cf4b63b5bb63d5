"""What DPO needs of the SFT model: a sweep over DPO's settings computes it once.

Nothing where DPO runs the SFT model beside its policy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import processes
from bench.files import write_jsonl
from bench.models.loading import load_policy
from bench.records import ComparisonData, PreferencePair
from bench.stages.context import Built, StageContext
from bench.train.dpo import PairLogps, needs_ref_logps, pair_logps

if TYPE_CHECKING:
    from bench.config import RunConfig

LOGPS = "logps.jsonl"


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    four_bit = {"four_bit": True} if config.dpo.lora_4bit else {}  # where it is off the stage is the one it always was
    return {"pairs": data.preferences["train"], "batch_size": config.sampling.batch_size, **four_bit}


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    pairs: Sequence[PreferencePair],
    batch_size: int,
    four_bit: bool = False,
) -> Built:
    if not needs_ref_logps(context.bf16, four_bit):
        return Built(models_resident=0)
    logps = shared_logps(context, inputs["sft"], pairs, batch_size)
    if processes.is_main():
        write_jsonl(folder / LOGPS, [pair._asdict() for pair in logps])
    return Built()


def shared_logps(context: StageContext, sft: Path, pairs: Sequence[PreferencePair], batch_size: int) -> list[PairLogps]:
    """`pair_logps` of the SFT model; all processes call it, share the pairs, and get those of all."""
    own = processes.own(pairs)
    with context.autocast(), context.bar(len(own), "pairs") as bar:
        share = pair_logps(load_policy(sft, context.device), context.tokenizer, own, batch_size, bar.update)
    return processes.put_together(share)
