"""One completion per evaluation prompt, with its log-probs and KL against the SFT model: every arm's, alike."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import write_jsonl
from bench.generation import SamplingConfig, decode
from bench.models.loading import load_policy
from bench.records import ComparisonData, Completion, EvalPrompt
from bench.scoring import completion_scores
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
    tokens = [
        (context.tokenizer(prompt.prompt).input_ids, completion.ids)
        for prompt, completion in zip(prompts, sampled, strict=True)
    ]
    scores = completion_scores(policy, ref_policy, context.tokenizer, tokens, sampling.temperature, sampling.batch_size)
    completions = [
        Completion(
            arm=context.name.removeprefix("generate_"),
            prompt_id=prompt.id,
            completion=decode(context.tokenizer, completion.ids),
            temperature=sampling.temperature,
            n_tokens=len(completion.ids),
            finished=completion.finished,
            **score._asdict(),
        )
        for prompt, completion, score in zip(prompts, sampled, scores, strict=True)
    ]
    write_jsonl(folder / COMPLETIONS, [asdict(completion) for completion in completions])
    return Built(tokens_generated=sum(len(completion.ids) for completion in sampled), models_resident=2)
