"""Win rates with length taken out: at equal length by a logistic regression, and by length ratio.

Judges like longer summaries, and arms differ in length; what is left of a win rate at equal length is not
bought with words.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from bench.errors import DataError
from bench.evaluate.length_model import fit_length_model
from bench.evaluate.statistics import ALPHA, estimate, proportion_interval

RATIO_EDGES = (0.0, 0.5, 0.8, 1.25, 2.0, math.inf)
"""Bins of length ratios, symmetric about 1: within a quarter, within a factor of two, beyond."""
SIMILAR = 2.0
"""Two summaries whose lengths are within this factor of one another count as overlap."""
LEAST_OVERLAP = {"with others": 0.05, "alone": 0.1}
THIN_OVERLAP = {"with others": 0.1, "alone": 0.25}
"""Shares of an arm's pairs within `SIMILAR`: below the least its win rate at equal length is refused, below the other
flagged. An arm fitted alone has no other to learn the effect of length from, and needs more."""

K = TypeVar("K", bound=Hashable)


class Sized(NamedTuple):
    """What a judge said of an arm's summary of one prompt, and how long it and its opponent are (in one unit)."""

    points: float
    length: float
    opponent_length: float


def length_controlled_win_rates(duels: Mapping[K, Mapping[str, Sized]], one_opponent: bool) -> dict[K, dict[str, Any]]:
    """Each duel's win rate had both sides written summaries of equal length, all duels in one regression.

    The model of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475, Eq. 2), logit P(win) = theta + phi tanh(d / s) +
    difficulty of the prompt, d the length difference; the answer is its prediction with d set to 0, averaged over the
    prompts. Three things differ from theirs: s, the sd of d, is one for all duels, as a word is a word for a judge;
    the duels' phi are drawn from one distribution, where they share phi with two artificial models; and difficulty,
    which they read from a table for a fixed set of prompts, is what the opponent's length and the verdicts on the
    other duels say of the prompt (`length_model`).

    Args:
        duels: duel -> prompt id -> verdict and lengths; an arm's duels under one judge. Unparsed verdicts are left out.
        one_opponent: all duels have one opponent, so that its prompts are as hard for every arm; without it the
            difficulty is left out, and swapping the sides of the duels gives one minus the win rates.

    Returns:
        For each duel "value", "ci95", "n"; "length_effect" (phi, positive where longer summaries win); "overlap", the
        share of pairs whose lengths are within a factor of two; "reason" and "flag". Where the data have no such
        number, value, ci95 and length_effect are None and `reason` says why; where there is one that should not be
        trusted far, `flag` says why. Both are None otherwise.
    """
    found: dict[K, dict[str, Any]] = {}
    kept = dict(duels)
    for refuse in (_too_little, _no_overlap, _no_regression):
        for duel, reason in refuse(kept, one_opponent).items():
            found[duel] = _unknown(duels[duel], reason)
        kept = {duel: rows for duel, rows in kept.items() if duel not in found}
    while kept:
        found |= _fitted(kept, one_opponent)
        lost = {duel for duel in kept if found.get(duel, {}).get("reason") == _ENDLESS}
        # One duel without a maximum takes the others' away; they have theirs without it.
        kept = {duel: rows for duel, rows in kept.items() if duel not in lost} if lost else {}
    return {duel: found[duel] for duel in duels}


def win_rate_by_length(
    points: Sequence[float], lengths: Sequence[float], opponent_lengths: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    """Estimate of the win rate in each bin of the ratio of the arm's length to its opponent's, shortest first.

    Each bin has "length_ratio": [from, below], the last one open ([2.0, None]), and "value", "ci95", "n"; a bin
    without prompts has n 0 and no value. Lengths are positive.

    Raises:
        DataError: not one length per verdict.
    """
    y, length = _paired(points, lengths)
    ratios = length / _paired(points, opponent_lengths)[1]
    bins = []
    for low, high in pairwise(RATIO_EDGES):
        within = y[(low <= ratios) & (ratios < high)]
        share = estimate(proportion_interval(within.tolist(), seed)) if within.size else _EMPTY
        bins.append({"length_ratio": [low, high if math.isfinite(high) else None], **share})
    return bins


_ENDLESS = "length all but separates its wins from losses: its likelihood has no maximum"
_EMPTY = {"value": None, "ci95": None, "n": 0}
Rows = Mapping[str, Sized]


def _paired(points: Sequence[float], lengths: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(points) != len(lengths):
        raise DataError(f"length control needs one length per verdict, got {len(lengths)} for {len(points)}")
    return np.asarray(points, dtype=np.float64), np.asarray(lengths, dtype=np.float64)


def _unknown(rows: Rows, reason: str) -> dict[str, Any]:
    overlap = _overlap(rows) if rows else None
    return {
        "value": None, "ci95": None, "n": len(rows), "length_effect": None,
        "overlap": overlap, "reason": reason, "flag": None,
    }  # fmt: skip


def _columns(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, lengths and the opponent's lengths."""
    y, length, opponent = np.array(list(rows.values()), dtype=np.float64).T
    return y, length, opponent


def _overlap(rows: Rows) -> float:
    _, length, opponent = _columns(rows)
    return float((np.maximum(length, opponent) <= SIMILAR * np.minimum(length, opponent)).mean())


def _too_little(duels: Mapping[K, Rows], one_opponent: bool) -> dict[K, str]:
    """Duels that say nothing of length, whatever the others say."""
    reasons = {}
    for duel, rows in duels.items():
        if len(rows) < 3:
            reasons[duel] = f"{len(rows)} parsed verdicts, too few for a regression on length"
        elif np.ptp(_columns(rows)[0]) == 0:
            reasons[duel] = "every verdict is the same"
    return reasons


def _no_overlap(duels: Mapping[K, Rows], one_opponent: bool) -> dict[K, str]:
    """Duels whose two sides hardly ever write equally much."""
    least = LEAST_OVERLAP["with others" if len(duels) > 1 else "alone"]
    shares = {duel: _overlap(rows) for duel, rows in duels.items()}
    return {
        duel: f"lengths are within a factor of two on {share:.1%} of prompts (less than {least:.0%}): equal length"
        " would be extrapolated"
        for duel, share in shares.items()
        if share < least
    }


def _no_regression(duels: Mapping[K, Rows], one_opponent: bool) -> dict[K, str]:
    """All duels, where together they cannot tell what length does; a lone one also where it alone cannot."""
    differences = {duel: length - opponent for duel, (_, length, opponent) in _each(duels)}
    every = np.concatenate([*differences.values(), np.zeros(0)])
    reason = None
    if all(np.ptp(d) == 0 for d in differences.values()):
        reason = "every length difference is the same"
    elif every.min() > 0 or every.max() < 0:
        side = "longer" if every.min() > 0 else "shorter"
        reason = f"every summary is {side} than its opponent: equal length would be extrapolated"
    elif len(duels) == 1:
        (rows,) = duels.values()
        y, length, opponent = _columns(rows)
        if _is_separated(y, length - opponent):
            reason = "length alone separates wins from losses"
        elif one_opponent and _hardly_varies(length):
            reason = "most of its summaries are equally long: length cannot be told from difficulty"
    return {} if reason is None else dict.fromkeys(duels, reason)


def _each(duels: Mapping[K, Rows]) -> list[tuple[K, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    return [(duel, _columns(rows)) for duel, rows in duels.items()]


def _is_separated(y: np.ndarray, d: np.ndarray) -> bool:
    """A maximum of the likelihood exists only if wins and losses overlap in length (Albert & Anderson 1984)."""
    not_won, not_lost = d[y < 1], d[y > 0]
    return not_won.max() <= not_lost.min() or not_lost.max() <= not_won.min()


def _hardly_varies(length: np.ndarray) -> bool:
    """Whether the middle half of the summaries are equally long: a fixed text, or texts cut off at a limit."""
    low, high = np.quantile(length, (0.25, 0.75))
    return bool(low == high)


def _fitted(duels: Mapping[K, Rows], one_opponent: bool) -> dict[K, dict[str, Any]]:
    prompts = list(dict.fromkeys(prompt for rows in duels.values() for prompt in rows))
    missing = Sized(math.nan, math.nan, math.nan)
    table = np.array([[rows.get(prompt, missing) for prompt in prompts] for rows in duels.values()])
    points, differences = table[..., 0], table[..., 1] - table[..., 2]
    scale = np.sqrt(np.nanvar(differences, axis=1).mean())
    difficulty = None
    if one_opponent:
        opponent = np.nanmean(table[..., 2], axis=0)
        sd = opponent.std()
        difficulty = np.tanh((opponent - opponent.mean()) / sd) if sd > 0 else np.zeros(len(prompts))
    fit = fit_length_model(points, np.nan_to_num(np.tanh(differences / scale)), difficulty)
    if fit is None:
        separated = [duel for duel, (y, length, other) in _each(duels) if _is_separated(y, length - other)]
        if separated:
            return {duel: _unknown(duels[duel], _ENDLESS) for duel in separated}
        return {duel: _unknown(rows, "the regression on length does not settle") for duel, rows in duels.items()}
    found = {}
    for (duel, rows), rate, error, effect in zip(
        duels.items(), fit.win_rates, fit.standard_errors, fit.length_effects, strict=True
    ):
        if not (np.isfinite(error) and 0 < rate < 1):
            found[duel] = _unknown(rows, _ENDLESS)
            continue
        half = error * stats.t.isf(ALPHA / 2, len(rows) - 2)
        found[duel] = {
            "value": float(rate),
            "ci95": [float(expit(logit(rate) - half)), float(expit(logit(rate) + half))],
            "n": len(rows),
            "length_effect": float(effect),
            "overlap": _overlap(rows),
            "reason": None,
            "flag": _flag(rows, len(duels), one_opponent),
        }
    return found


def _flag(rows: Rows, duels: int, one_opponent: bool) -> str | None:
    thin, share = THIN_OVERLAP["with others" if duels > 1 else "alone"], _overlap(rows)
    if share < thin:
        return f"lengths are within a factor of two on only {share:.1%} of prompts: extrapolated"
    if one_opponent and _hardly_varies(_columns(rows)[1]):
        return "most of its summaries are equally long: its length can hardly be told from difficulty"
    return None
