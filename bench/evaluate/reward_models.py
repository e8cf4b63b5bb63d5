"""How well reward models, and DPO's implicit reward, tell chosen from rejected on held-out pairs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.data.splits import post_key
from bench.evaluate.calibration import calibration
from bench.evaluate.decisions import decide
from bench.evaluate.rules import accuracy, agreement, lead, longer_wins, pair_scores, title_overlap_wins
from bench.records import PreferencePair


class Scored(NamedTuple):
    """A scorer's numbers for the pairs' two summaries, a number per pair, higher is better."""

    chosen: Sequence[float]
    rejected: Sequence[float]


def reward_model_numbers(
    pairs: Sequence[PreferencePair],
    reward_models: Mapping[str, Scored],
    implicit: Scored | None,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """`reward_model`, `judge_reward_model` and `implicit_reward` of metrics.json; pairs of one post stay together.

    Args:
        reward_models: name in metrics.json -> its scores.
        implicit: log pi_DPO - log pi_SFT of each summary, where there is a DPO policy.
    """
    posts = [post_key(pair.prompt) for pair in pairs]
    longer = longer_wins(pairs)

    def share(scores: Sequence[float]) -> dict[str, Any]:
        return accuracy(scores, seed, resamples, posts)

    result: dict[str, Any] = {}
    right: dict[str, list[float]] = {}
    for name, scores in reward_models.items():
        right[name] = pair_scores(*scores)
        over_longer = lead(right[name], longer, seed, resamples, posts)
        agreed = share(agreement(right[name], longer))
        result[name] = {
            "posts": len(set(posts)),
            "accuracy": share(right[name]),
            "longer_wins": share(longer),
            "title_overlap_wins": share(title_overlap_wins(pairs)),
            "agrees_with_longer": agreed["value"],
            "agrees_with_longer_ci95": agreed["ci95"],
            "minus_longer_wins": over_longer,
            "beats_longer_wins": decide(over_longer, 0, over_longer["p_value"]),
            "calibration": calibration(*scores, seed, resamples, posts),
        }
    if implicit is not None:
        ordered = pair_scores(*implicit)
        result["implicit_reward"] = {"posts": len(set(posts)), "accuracy": share(ordered)}
        if "reward_model" in right:
            over_explicit = lead(ordered, right["reward_model"], seed, resamples, posts)
            result["implicit_reward"]["minus_reward_model"] = over_explicit
    return result
