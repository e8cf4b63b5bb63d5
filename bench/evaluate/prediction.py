"""Where a further run will land, from what several seeds gave."""

from collections.abc import Sequence

import numpy as np
from scipy import special, stats


def range_of_a_further_run(shares: Sequence[float], level: float) -> tuple[float, float]:
    """The interval that holds one more share of the same kind with probability `level`, the further run's.

    Student's t for a further observation, mean +- t * sd * sqrt(1 + 1/n), on the logit scale, so that no end leaves
    0 to 1; exact where the logits are normal over seeds.

    Args:
        shares: two or more, each strictly between 0 and 1.
    """
    logits = special.logit(np.asarray(shares, dtype=float))
    n = len(logits)
    half = stats.t.isf((1 - level) / 2, n - 1) * logits.std(ddof=1) * (1 + 1 / n) ** 0.5
    low, high = special.expit([logits.mean() - half, logits.mean() + half])
    return float(low), float(high)
