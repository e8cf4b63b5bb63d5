"""One completion per evaluation prompt, with its log-probs and KL against the SFT model: every arm's, alike."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import processes
from bench.files import write_jsonl
from bench.generation import SamplingConfig
from bench.models.loading import load_policy
from bench.records import ComparisonData, EvalPrompt
from bench.scoring import as_completions
from bench.stages.context import Built, StageContext, sample_prompts

if TYPE_CHECKING:
    from bench.config import RunConfig

COMPLETIONS = "completions.jsonl"


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "prompts": data.eval_prompts,
        "sampling": config.sampling,
        "max_new_tokens": config.budget.max_completion_tokens,
        "seed": config.seed,
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    prompts: Sequence[EvalPrompt],
    sampling: SamplingConfig,
    max_new_tokens: int,
    seed: int,
) -> Built:
    policy, ref_policy = (load_policy(inputs[name], context.device, context.frozen_dtype) for name in ("policy", "sft"))
    sampled = sample_prompts(context, policy, prompts, sampling=sampling, max_new_tokens=max_new_tokens, seed=seed)
    arm = context.name.removeprefix("generate_")
    own = processes.own(prompts), processes.own(sampled)
    with context.bar(len(own[0]), "samples", "KL") as bar:
        share = as_completions(arm, *own, policy, ref_policy, context.tokenizer, sampling, bar.update)
    completions = processes.put_together(share)
    if processes.is_main():
        write_jsonl(folder / COMPLETIONS, [asdict(completion) for completion in completions])
    return Built(tokens_generated=sum(completion.n_tokens for completion in completions), models_resident=2)
