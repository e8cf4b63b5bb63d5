"""The best of the moments at which a training was sampled, by one judge: early stopping, the same for every arm.

The judge compares the samples, which are of validation posts, with the reference summaries; the policy before the
training is no candidate, and of equals the earliest is taken. The evaluation is of other posts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arms import REFERENCE
from bench.data.config import ControlledConfig
from bench.data.controlled import scorer_code
from bench.errors import DataError
from bench.evaluate.judges.config import JudgeConfig
from bench.evaluate.judges.factory import build_judges, prompt_hashes
from bench.evaluate.win_rate import compare, win_rate
from bench.files import read_jsonl, write_json
from bench.models.loading import load_reward_model
from bench.progress import say
from bench.records import ComparisonData, EvalPrompt
from bench.scoring import reward_scores
from bench.stages.context import CHOSEN, IN_TRAINING, Built, StageContext, held_out
from bench.train.moments import load_moment

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    judge = config.judge.only(str(config.samples_in_training.keep_best))
    truth: tuple[Any, ...] = ()
    if judge.names == ("gold",):
        of = config.data
        truth = (of.reward, scorer_code(of.reward)) if isinstance(of, ControlledConfig) else (of,)
    return {
        "judge": judge,
        "prompt": prompt_hashes(judge),
        "truth": truth,
        "posts": held_out(config, data)["held_out"].prompts,
        "at_once": config.sampling.batch_size,
        "seed": config.seed,
        "resamples": config.evaluation.bootstrap_resamples,
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    judge: JudgeConfig,
    prompt: list[str],
    truth: tuple[Any, ...],
    posts: Sequence[EvalPrompt],
    at_once: int,
    seed: int,
    resamples: int,
) -> Built:
    """`prompt` and `truth` say what the judge goes by; `chosen.json` holds what it found.

    Raises:
        DataError: none of the judge's verdicts can be read.
    """
    by_reward = None
    if "judge_reward" in inputs:
        reward = load_reward_model(inputs["judge_reward"], context.device, context.frozen_dtype)
        by_reward = lambda summaries: reward_scores(reward, context.tokenizer, summaries, at_once)  # noqa: E731
    (asked,) = build_judges(judge, gold=context.gold, reward_score=by_reward, cache_dir=context.cache_dir, seed=seed)
    of_step: dict[int, dict[str, str]] = {}
    for row in read_jsonl(inputs["training"] / IN_TRAINING):
        of_step.setdefault(row["step"], {})[row["prompt_id"]] = row["completion"]
    references = {post.id: post.reference for post in posts}
    found = {
        step: win_rate(
            compare(f"step_{step}", REFERENCE, texts, references, posts, asked, seed, judge.orders), seed, resamples
        )
        for step, texts in of_step.items()
    }
    step = best_step(found)
    if step is None:
        raise DataError(
            f"samples_in_training.keep_best: no verdict of {asked.name} can be read; name another judge (what was"
            " trained stays)"
        )
    say(
        f"{context.name}: after {step} of {max(found)} steps, {found[step]['value']:.1%} against the reference"
        f" summaries of {len(posts)} validation posts"
    )
    context.save(load_moment(inputs["training"], step, inputs["sft"]), folder)
    rates = [{"step": at, "win_rate": rate} for at, rate in sorted(found.items())]
    write_json(folder / CHOSEN, {"judge": asked.name, "step": step, "steps": max(found), "moments": rates})
    return Built(models_resident=1)


def best_step(found: Mapping[int, Mapping[str, Any]]) -> int | None:
    """The step after the first with the highest win rate; the earliest of equals, which went least far. None where no
    win rate is known."""
    known = {step: rate["value"] for step, rate in found.items() if step > 0 and rate["value"] is not None}
    return max(known, key=lambda step: (known[step], -step), default=None)
