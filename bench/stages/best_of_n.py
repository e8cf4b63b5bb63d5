"""The SFT model's completions of the evaluation prompts, n each, with the reward model's scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import processes
from bench.evaluate.best_of_n import Candidate, write_candidates
from bench.generation import SamplingConfig, decode
from bench.models.loading import load_policy, load_reward_model
from bench.records import ComparisonData, EvalPrompt
from bench.scoring import reward_scores
from bench.stages.context import Built, StageContext, sample_prompts

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    return {
        "n": config.best_of_n.at(config.sampling.temperature),
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
    n: int,
    prompts: Sequence[EvalPrompt],
    sampling: SamplingConfig,
    max_new_tokens: int,
    seed: int,
) -> Built:
    sampled = sample_prompts(
        context,
        load_policy(inputs["sft"], context.device, context.frozen_dtype),
        prompts,
        samples_per_prompt=n,
        sampling=sampling,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    texts = [decode(context.tokenizer, completion.ids) for completion in sampled]
    owners = [prompt for prompt in prompts for _ in range(n)]
    reward = load_reward_model(inputs["reward"], context.device, context.frozen_dtype)
    own = processes.own([(owner.prompt, text) for owner, text in zip(owners, texts, strict=True)])
    with context.bar(len(own), "samples", "scores") as bar:
        share = reward_scores(reward, context.tokenizer, own, sampling.batch_size, bar.update)
    scores = processes.put_together(share)
    found = [
        Candidate(owner.id, text, len(completion.ids), completion.finished, score)
        for owner, text, completion, score in zip(owners, texts, sampled, scores, strict=True)
    ]
    if processes.is_main():
        write_candidates(folder, found)
    return Built(tokens_generated=sum(candidate.n_tokens for candidate in found), models_resident=2)
