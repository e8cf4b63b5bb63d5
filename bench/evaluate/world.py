"""The built-in world's own checks: no trivial policy may beat SFT, and there must be room above it."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.evaluate.judges.gold import GoldJudge
from bench.evaluate.statistics import bootstrap_mean, estimate
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
        policies: trivial policy -> prompt id -> summary; `best` is the best that can be written, `empty` nothing.
        sft: the SFT model's summaries.
    """
    trivial: dict[str, dict[str, Any]] = {}
    for name, summaries in policies.items():
        rewards = [gold(prompt_id, text) for prompt_id, text in summaries.items()]
        verdicts = compare(name, "sft", summaries, sft, prompts, GoldJudge(gold), seed)
        trivial[name] = {
            "gold": estimate(bootstrap_mean(rewards, seed, resamples)),
            "win_rate_vs_sft": win_rate(verdicts, seed, resamples),
        }
    best = trivial.pop("best")["gold"]["value"]
    worst = min(entry["gold"]["value"] for entry in trivial.values())
    sft_gold = sum(gold(prompt_id, text) for prompt_id, text in sft.items()) / len(sft)
    return {
        "trivial": trivial,
        "best_attainable": best,
        "headroom": (best - sft_gold) / (best - worst),
        "headroom_from_empty": (best - sft_gold) / (best - trivial["empty"]["gold"]["value"]),
    }
