"""What n prompts can show: power before a run, and the prompts that an undecided one would have needed."""

import math
from typing import Any

import numpy as np
from scipy.optimize import root_scalar
from statsmodels.stats.power import NormalIndPower, normal_sample_size_one_tail
from statsmodels.stats.proportion import proportion_effectsize

from bench.evaluate.statistics import ALPHA

POWER = 0.8


def prompts_needed(
    gap: float, *, base: float = 0.5, discordant: float | None = None, power: float = POWER, alpha: float = ALPHA
) -> int:
    """Prompts (per arm) on which a true gap between two win rates is found with probability `power`.

    Args:
        gap: difference between the two win rates, a share; its sign does not matter if the test is paired.
        base: the other arm's win rate, for the unpaired test of base against base + gap: by the
            arcsine-transformed difference (Cohen 1988), each arm on prompts of its own.
        discordant: for arms on the same prompts, the share of prompts on which exactly one of them wins: the exact
            test of McNemar (`_paired`). Two arms shown to a judge head to head are such a pair, `gap` their share of
            wins minus that of losses (twice the win rate's distance from 0.5), `discordant` the untied share.

    Raises:
        ValueError: gap 0, base + gap outside [0, 1], or a gap above the discordant share.
    """
    if gap == 0:
        raise ValueError("no number of prompts shows a gap of 0")
    if discordant is None:
        if not (0 <= base <= 1 and 0 <= base + gap <= 1):
            raise ValueError(f"win rates must be within [0, 1], got {base} and {base + gap}")
        needed = NormalIndPower().solve_power(proportion_effectsize(base + gap, base), alpha=alpha, power=power)
    else:
        needed = _paired(abs(gap), discordant, power, alpha)
    return math.ceil(float(np.squeeze(needed)))


def smallest_detectable_gap(
    n: int, *, base: float = 0.5, discordant: float | None = None, power: float = POWER, alpha: float = ALPHA
) -> float | None:
    """The gap for which n prompts are `prompts_needed`, upwards from `base`; None if no gap is wide enough."""
    if discordant is None:
        effect = float(np.squeeze(NormalIndPower().solve_power(None, nobs1=n, alpha=alpha, power=power)))
        angle = math.asin(math.sqrt(base)) + effect / 2  # the inverse of proportion_effectsize
        return math.sin(angle) ** 2 - base if angle <= math.pi / 2 else None

    def lack(gap: float) -> float:
        return _paired(gap, discordant, power, alpha) - n

    widest = discordant * (1 - 1e-9)  # all discordant prompts one way; at 1 itself the spread would be 0
    return (
        float(root_scalar(lack, bracket=(1e-4 * widest, widest)).root)
        if lack(widest) < 0 < lack(1e-4 * widest)
        else None
    )


def power_summary(n: int) -> dict[str, Any]:
    """The `power` of metrics.json: what `n` prompts can show, as distances between win rates, before any is judged.

    Returns:
        "n", "power", "level"; "head_to_head": smallest distance from 0.5 of a win rate without ties (ties make
        it smaller); "between_arms": smallest gap between two arms' win rates, one of them at 0.5, if each had
        prompts of its own (on the same prompts it is smaller, by how much depends on how often both win).
    """
    paired = smallest_detectable_gap(n, discordant=1.0)
    return {
        "n": n,
        "power": POWER,
        "level": ALPHA,
        "head_to_head": None if paired is None else paired / 2,
        "between_arms": smallest_detectable_gap(n),
    }


def power_line(n: int) -> str:
    """`power_summary` in one line, for the start of a run."""
    summary = power_summary(n)
    head_to_head, between = (
        None if gap is None else f"{100 * gap:.1f} points" for gap in (summary["head_to_head"], summary["between_arms"])
    )
    if head_to_head is None or between is None:
        return f"{n} prompts: too few to tell any two arms apart at the {ALPHA:.0%} level with {POWER:.0%} power"
    return (
        f"{n} prompts: smallest difference found with {POWER:.0%} power at the {ALPHA:.0%} level: head to head "
        f"{head_to_head} from 50 %, between two arms' win rates {between}; less is likely to end as not decided"
    )


def prompts_to_decide(win_rate: float, tie_share: float) -> int | None:
    """Prompts on which a head-to-head win rate like the one seen would be told from 0.5 (80 % power).

    A plan for the next run, if the truth is what was seen, and no statement about this one. None at exactly 0.5.
    """
    if win_rate == 0.5:
        return None
    gap = 2 * win_rate - 1
    return prompts_needed(gap, discordant=max(1 - tie_share, abs(gap)))  # equal where one never wins, but for rounding


def _paired(gap: float, discordant: float, power: float, alpha: float) -> float:
    """Prompts for the exact test of a gap above 0: those of the score test (Miettinen 1968), with what the exact one,
    which goes in whole prompts, needs beside them (Fleiss, Levin & Paik 2003, Statistical Methods for Rates and
    Proportions, 2.5)."""
    spread = _spread(gap, discordant)
    n = float(normal_sample_size_one_tail(gap, power, alpha / 2, math.sqrt(discordant), spread))
    return n / 4 * (1 + math.sqrt(1 + 4 / (n * gap))) ** 2


def _spread(gap: float, discordant: float) -> float:
    """Standard deviation per prompt of wins minus losses, their shares adding up to `discordant`."""
    if not abs(gap) <= discordant <= 1:
        raise ValueError(f"discordant share must be between the gap {abs(gap)} and 1, got {discordant}")
    return math.sqrt(max(discordant - gap**2, 1e-18))
