"""The best of all n samples. Its distribution is no model's: no log-probs; `kl_bound` says how far it may be."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import processes
from bench.evaluate.best_of_n import best_of_first, read_candidates
from bench.files import write_jsonl
from bench.records import ComparisonData, Completion
from bench.stages.context import Built, StageContext
from bench.stages.generate import COMPLETIONS

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {"n": config.best_of_n.at(config.sampling.temperature), "temperature": config.sampling.temperature}


def build(context: StageContext, inputs: Mapping[str, Path], folder: Path, *, n: int, temperature: float) -> Built:
    completions = [
        Completion(
            arm="best_of_n",
            prompt_id=best.prompt_id,
            completion=best.completion,
            temperature=temperature,
            n_tokens=best.n_tokens,
            finished=best.finished,
        )
        for best in best_of_first(read_candidates(inputs["policy"]), n, n)
    ]
    if processes.is_main():
        write_jsonl(folder / COMPLETIONS, [asdict(completion) for completion in completions])
    return Built(models_resident=0)
