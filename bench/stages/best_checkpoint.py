"""The best of the moments at which a training was sampled, by one judge: early stopping, the same for every arm.

The judge compares the samples, which are of validation posts, with the reference summaries; the policy before the
training is no candidate, and of equals the earliest is taken. The test posts are others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.arms import REFERENCE
from bench.data.config import ControlledConfig
from bench.errors import DataError
from bench.evaluate.in_training import by_step
from bench.evaluate.judges.config import JudgeConfig
from bench.evaluate.judges.factory import prompt_hashes
from bench.evaluate.win_rate import compare, win_rate
from bench.files import read_jsonl, write_json
from bench.models.loading import load_policy
from bench.progress import say
from bench.records import ComparisonData, EvalPrompt
from bench.stages.context import CHOSEN, IN_TRAINING, Built, StageContext, held_out
from bench.stages.truth import truth_of
from bench.train.moments import load_moment

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    judge = config.judge.only(str(config.samples_in_training.keep_best))
    truth: tuple[Any, ...] = ()
    if judge.names == ("gold",):
        of = config.data
        truth = truth_of(of.reward) if isinstance(of, ControlledConfig) else (of,)
    return {
        "judge": judge,
        "prompt": prompt_hashes(judge),
        "truth": truth,
        "posts": held_out(config, data)["held_out"].prompts,
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
    seed: int,
    resamples: int,
) -> Built:
    """`judge`, `prompt`, `truth` and the input `judge_reward` say what the run's judge is; `chosen.json` holds what it
    found.

    Raises:
        DataError: none of the judge's verdicts can be read.
    """
    assert context.judge is not None
    (name,) = judge.names
    rows = read_jsonl(inputs["training"] / IN_TRAINING)
    references = {post.id: post.reference for post in posts}
    found: dict[int, dict[str, Any]] = {}
    with context.judge(name) as asked:
        for step, samples in by_step(rows).items():
            texts = {sample.prompt_id: sample.completion for sample in samples}
            verdicts = compare(f"step_{step}", REFERENCE, texts, references, posts, asked, seed, judge.orders)
            found[step] = win_rate(verdicts, seed, resamples)
    step, steps = best_step(found), rows[0]["steps"]
    if step is None and max(found) > 0:
        raise DataError(
            f"samples_in_training.keep_best: no verdict of {name} can be read; name another judge (what was"
            " trained stays)"
        )
    if step is None:
        said = f"the training ended before its first moment (of {steps} steps); its last weights are taken"
    else:
        rate = f"{found[step]['value']:.1%} against the reference summaries of {len(posts)} validation posts"
        said = f"after {step} of {steps} steps, {rate}"
    say(f"{context.name}: {said}")
    if step is None or step == steps:
        policy = load_policy(inputs["training"], torch.device("cpu"))
    else:
        policy = load_moment(inputs["training"], step, inputs["sft"])
    context.save(policy, folder)
    rates = [{"step": at, "win_rate": rate} for at, rate in found.items()]
    write_json(folder / CHOSEN, {"judge": name, "step": step, "steps": steps, "moments": rates})
    return Built()


def best_step(found: Mapping[int, Mapping[str, Any]]) -> int | None:
    """The step after the first with the highest win rate; the earliest of equals, which went least far. None where no
    win rate is known."""
    known = {step: rate["value"] for step, rate in found.items() if step > 0 and rate["value"] is not None}
    return max(known, key=lambda step: (known[step], -step), default=None)
