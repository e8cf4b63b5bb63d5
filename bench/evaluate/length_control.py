"""Win rates with length taken out: at equal length by a logistic regression, and by length ratio.

Judges like longer summaries, and arms differ in length; what is left of a win rate at equal length is not
bought with words.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from bench.errors import DataError
from bench.evaluate.statistics import ALPHA, estimate, proportion_interval

RATIO_EDGES = (0.0, 0.5, 0.8, 1.25, 2.0, math.inf)
"""Bins of length ratios, symmetric about 1: within a quarter, within a factor of two, beyond."""


def length_controlled_win_rate(points: Sequence[float], length_differences: Sequence[float]) -> dict[str, Any]:
    """Win rate of an arm over its opponent had both written summaries of equal length.

    The model of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475, Eq. 2) without its instruction-difficulty
    term, which needs a table for a fixed set of prompts: logit P(win) = theta + phi tanh(d / sd(d)), d the length
    difference. The answer, its prediction averaged over prompts with d set to 0, is logistic(theta).

    The interval is theta +- t se, put through the logistic function, with se from the sandwich covariance: a tie is
    half a win, so verdicts are not binomial (Papke & Wooldridge 1996). It costs one fit where a bootstrap takes
    thousands, some of them separable, and covers (bench.evaluate.simulation).

    Args:
        points: 1, 0.5 or 0 per prompt: the arm won, tied, lost.
        length_differences: length of the arm's summary minus its opponent's, in tokens.

    Returns:
        "value", "ci95", "n"; "length_effect" (phi, positive where longer summaries win); "reason". Where the data
        have no such number, value, ci95 and length_effect are None and `reason` says why; it is None otherwise.

    Raises:
        DataError: not one length difference per verdict.
    """
    y, d = _paired(points, length_differences)
    if (reason := _no_answer(y, d)) is not None:
        return _unknown(y.size, reason)
    design = np.column_stack([np.ones_like(d), np.tanh(d / d.std())])
    with np.errstate(divide="ignore", invalid="ignore"):  # fitted probabilities that round to 0 or 1
        fit = GLM(y, design, family=Binomial()).fit(cov_type="HC0")
    theta, phi = (float(parameter) for parameter in fit.params)
    half = float(fit.bse[0] * stats.t.isf(ALPHA / 2, y.size - 2))
    if not math.isfinite(half):
        return _unknown(y.size, "length all but separates wins from losses")
    return {
        "value": float(expit(theta)),
        "ci95": [float(expit(theta - half)), float(expit(theta + half))],
        "n": y.size,
        "length_effect": phi,
        "reason": None,
    }


def win_rate_by_length(
    points: Sequence[float], lengths: Sequence[float], opponent_lengths: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    """Estimate of the win rate in each bin of the ratio of the arm's length to its opponent's, shortest first.

    Each bin has "length_ratio": [from, below], the last one open ([2.0, None]), and "value", "ci95", "n"; a bin
    without prompts has n 0 and no value. Lengths are positive.
    """
    y, length = _paired(points, lengths)
    ratios = length / _paired(points, opponent_lengths)[1]
    bins = []
    for low, high in pairwise(RATIO_EDGES):
        within = y[(low <= ratios) & (ratios < high)]
        share = estimate(proportion_interval(within.tolist(), seed)) if within.size else _EMPTY
        bins.append({"length_ratio": [low, high if math.isfinite(high) else None], **share})
    return bins


_EMPTY = {"value": None, "ci95": None, "n": 0}


def _paired(points: Sequence[float], lengths: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(points) != len(lengths):
        raise DataError(f"length control needs one length per verdict, got {len(lengths)} for {len(points)}")
    return np.asarray(points, dtype=np.float64), np.asarray(lengths, dtype=np.float64)


def _unknown(n: int, reason: str) -> dict[str, Any]:
    return {"value": None, "ci95": None, "n": n, "length_effect": None, "reason": reason}


def _no_answer(y: np.ndarray, d: np.ndarray) -> str | None:
    """Why the model has no finite estimate at equal length, or None where it has one."""
    if y.size < 3:
        return f"{y.size} parsed verdicts, too few for a regression on length"
    if np.ptp(y) == 0:
        return "every verdict is the same"
    if np.ptp(d) == 0:
        return "every length difference is the same"
    if d.min() > 0 or d.max() < 0:
        side = "longer" if d.min() > 0 else "shorter"
        return f"every summary is {side} than its opponent: equal length would be extrapolated"
    # A maximum of the likelihood exists only if wins and losses overlap in length (Albert & Anderson 1984).
    not_won, not_lost = d[y < 1], d[y > 0]
    if not_won.max() <= not_lost.min() or not_lost.max() <= not_won.min():
        return "length alone separates wins from losses"
    return None
