"""How well reward models, and DPO's implicit reward, tell chosen from rejected on held-out pairs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.evaluate.rules import accuracy, agreement, longer_wins, pair_scores, title_overlap_wins
from bench.evaluate.statistics import decide, estimate, paired_difference
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
    """`reward_model`, `judge_reward_model` and `implicit_reward` of metrics.json.

    Args:
        reward_models: name in metrics.json -> its scores.
        implicit: log pi_DPO - log pi_SFT of each summary, where there is a DPO policy.
    """
    longer = longer_wins(pairs)
    result: dict[str, Any] = {}
    right: dict[str, list[float]] = {}
    for name, scores in reward_models.items():
        right[name] = pair_scores(*scores)
        lead = paired_difference(right[name], longer, seed, resamples, bounds=(-1, 1))
        agreed = agreement(right[name], longer)
        result[name] = {
            "accuracy": accuracy(right[name], seed, resamples),
            "longer_wins": accuracy(longer, seed, resamples),
            "title_overlap_wins": accuracy(title_overlap_wins(pairs), seed, resamples),
            "agrees_with_longer": sum(agreed) / len(agreed),
            "beats_longer_wins": decide(lead, 0),
        }
    if implicit is not None:
        ordered = pair_scores(*implicit)
        result["implicit_reward"] = {"accuracy": accuracy(ordered, seed, resamples)}
        if "reward_model" in right:
            lead = paired_difference(ordered, right["reward_model"], seed, resamples, bounds=(-1, 1))
            result["implicit_reward"]["minus_reward_model"] = estimate(lead)
    return result
