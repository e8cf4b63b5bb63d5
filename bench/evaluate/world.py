"""Checks where the reward is known: no trivial policy may beat SFT, and there must be room above it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.evaluate.judges.gold import GoldJudge
from bench.evaluate.statistics import bootstrap_mean, estimate, ratio_of_means
from bench.evaluate.win_rate import compare, win_rate
from bench.records import EvalPrompt, GoldReward


def world_numbers(
    policies: Mapping[str, Mapping[str, str]],
    sft: Mapping[str, str],
    prompts: Sequence[EvalPrompt],
    gold: GoldReward,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """`world` of metrics.json.

    Args:
        policies: trivial policy -> prompt id -> summary, of `prompts` and maybe of more; `empty` is nothing, and
            `best`, where it is known, the best that can be written.
        sft: the SFT model's summaries.
    """

    def golds_of(summaries: Mapping[str, str]) -> list[float]:
        return gold([(prompt.id, summaries[prompt.id]) for prompt in prompts])

    rewards = {name: golds_of(summaries) for name, summaries in policies.items()}
    best = rewards.pop("best", None)
    trivial: dict[str, dict[str, Any]] = {}
    for name, golds in rewards.items():
        verdicts = compare(name, "sft", policies[name], sft, prompts, GoldJudge(gold), seed)
        trivial[name] = {
            "gold": estimate(bootstrap_mean(golds, seed, resamples)),
            "win_rate_vs_sft": win_rate(verdicts, seed, resamples),
        }
    if best is None:
        return {"trivial": trivial}
    return {
        "trivial": trivial,
        "best_attainable": sum(best) / len(best),
        **headroom(best, golds_of(sft), rewards, seed, resamples),
    }


def headroom(
    best: Sequence[float], policy: Sequence[float], trivial: Mapping[str, Sequence[float]], seed: int, resamples: int
) -> dict[str, Any]:
    """ "headroom", (best - policy) / (best - worst trivial policy), "headroom_from_empty", the same over the empty
    summary, and the interval of each over prompts, "<name>_ci95": 0 is the best, 1 no better than trivial.

    Args:
        best: true reward of the best summary of each prompt; `policy` and each of `trivial` on the same prompts. The
            worst trivial policy is the one with the lowest mean; "empty" is among them.
    """
    worst = min(trivial, key=lambda name: float(np.mean(trivial[name])))
    found: dict[str, Any] = {}
    for name, floor in (("headroom", worst), ("headroom_from_empty", "empty")):
        ratio = ratio_of_means(np.subtract(best, policy), np.subtract(best, trivial[floor]), seed, resamples)
        share = estimate(ratio)
        found |= {name: share["value"], f"{name}_ci95": share["ci95"]}
    return found
