"""Room above a policy where the true reward is known: how far it is from the best that can be written."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.evaluate.statistics import RESAMPLES, estimate, ratio_of_means


def headroom(
    best: Sequence[float],
    policy: Sequence[float],
    trivial: Mapping[str, Sequence[float]],
    seed: int,
    resamples: int = RESAMPLES,
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
