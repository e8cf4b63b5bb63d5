"""What a round of iterated DPO learns from: of a post's samples the best against the worst, by the reward model."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.records import PreferencePair


class Scored(NamedTuple):
    """A sample, whether it ended within the limit, and the reward model's score."""

    text: str
    is_finished: bool
    score: float


def best_and_worst(pair_id: str, prompt: str, samples: Sequence[Scored]) -> PreferencePair | None:
    """The pair of one post; None where nothing is better than anything else.

    A sample that was cut off stands below every one that ended, as PPO's penalty has it.
    """
    ranked = sorted(samples, key=lambda sample: (sample.is_finished, sample.score))
    worst, best = ranked[0], ranked[-1]
    if best.text == worst.text or best[1:] == worst[1:]:
        return None
    return PreferencePair(pair_id, prompt, best.text, worst.text)
