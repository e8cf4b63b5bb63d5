"""What to make of a judge's log-odds: verdicts as shown, with an offset fitted to the labels, or free of position."""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import statsmodels.api as sm
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from bench.evaluate.agreement import points_of_agreement
from bench.evaluate.decisions import NOT_DECIDED, SUPPORTED, decide
from bench.evaluate.rules import accuracy, lead
from bench.evaluate.statistics import RESAMPLES, estimate, holm, ratio_of_means
from bench.evaluate.win_rate import POINTS
from bench.records import VerdictLabel

WAYS = ("as_shown", "offset", "position_free")
FOLDS = 5
_FEWEST = 20  # pairs; fewer fit no offset


def log_odds_numbers(
    first: Sequence[float],
    second: Sequence[float],
    labels: Sequence[Sequence[VerdictLabel]],
    seed: int,
    resamples: int = RESAMPLES,
    posts: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """Three ways from log-odds to verdicts, held against the labels of the same pairs.

    Args:
        first, second: per pair, log p(A) - log p(B) in nats with its a shown first, and with its b shown first.
        labels: per pair, one label per annotator.
        posts: of each pair, where a post may have several: intervals are over posts, and none is in two folds.

    Returns:
        "lean_to_first": estimate, nats added to whatever is shown first: the mean of both orders' log-odds.
        "accuracy": way -> estimate of the agreement with the labels. as_shown: each order's sign, disagreement is a
        tie; offset: the same less an offset, fitted on the other folds; position_free: the sign of the two orders'
        mean log-odds for a.
        "minus_as_shown": of offset and position_free, the paired difference to as_shown.
        "offset": fitted on all pairs, for judge.local_llm.offset; None where the labels fit none.
        "better": of the ways whose lead over as_shown is above 0, by its interval and its exact test (Holm), the one
        with the largest; or "not decided at this n".
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    share = np.array([np.mean([POINTS[label] for label in given]) for given in labels])
    names = range(len(x)) if posts is None else posts
    said = {
        "as_shown": _both_orders(x, y, 0.0),
        "offset": _cross_fitted(x, y, share, names, seed),
        "position_free": [_label(value) for value in x - y],
    }
    scores = {way: _agreed(found, labels) for way, found in said.items() if found is not None}
    leads, p_values = {}, {}
    for way in list(scores)[1:]:
        leads[way] = lead(scores[way], scores["as_shown"], seed, resamples, posts)
        p_values[way] = leads[way]["p_value"]
    adjusted = holm(p_values)
    ahead = [way for way, found in leads.items() if decide(found, 0, adjusted[way]) == SUPPORTED]
    return {
        "lean_to_first": _lean((x + y) / 2, names, seed, resamples),
        "accuracy": {way: accuracy(values, seed, resamples, posts) for way, values in scores.items()},
        "minus_as_shown": leads,
        "offset": fitted_offset(x, y, share),
        "better": max(ahead, key=lambda way: leads[way]["value"], default=NOT_DECIDED),
    }


def fitted_offset(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> float | None:
    """The log-odds (P,) at which the first shown and the second are equally likely the labels' choice, in nats.

    By logistic regression of the labels (share of a, P) on the log-odds of both orders: -intercept / slope. None where
    the labels do not rise with the log-odds, or only odds that no pair has would make them even.
    """
    if len(first) < _FEWEST:
        return None
    odds, chosen = np.concatenate([first, second]), np.concatenate([share, 1 - share])
    if np.ptp(odds) == 0:
        return None
    with warnings.catch_warnings():
        # Told apart completely, the slope grows without end; the offset lies between the two sides all the same.
        warnings.filterwarnings("ignore", category=PerfectSeparationWarning)
        fit = sm.GLM(chosen, sm.add_constant(odds), family=sm.families.Binomial()).fit()
    intercept, slope = map(float, fit.params)
    offset = -intercept / slope if slope > 0 else None
    return offset if offset is not None and odds.min() <= offset <= odds.max() else None


def _lean(values: np.ndarray, posts: Sequence[Hashable], seed: int, resamples: int) -> dict[str, Any]:
    """Estimate of the mean over pairs, whole posts resampled."""
    post = _codes(posts)
    mean = ratio_of_means(np.bincount(post, values), np.bincount(post), seed, resamples)
    return estimate(replace(mean, n=len(values)))


def _codes(posts: Sequence[Hashable]) -> np.ndarray:
    """(P,) post of each pair, as numbers from 0 in the order in which they come."""
    code = {post: i for i, post in enumerate(dict.fromkeys(posts))}
    return np.array([code[post] for post in posts])


def _cross_fitted(
    first: np.ndarray, second: np.ndarray, share: np.ndarray, posts: Sequence[Hashable], seed: int
) -> list[VerdictLabel] | None:
    """Verdicts with the offset that the pairs of the other folds fit; None where one of them fits none."""
    post = _codes(posts)
    folds = (np.random.default_rng(seed).permutation(post.max() + 1) % FOLDS)[post]
    said: list[VerdictLabel] = ["unparsed"] * len(first)
    for fold in range(FOLDS):
        inside = folds == fold
        offset = fitted_offset(first[~inside], second[~inside], share[~inside])
        if offset is None:
            return None
        for i, label in zip(np.flatnonzero(inside), _both_orders(first[inside], second[inside], offset), strict=True):
            said[i] = label
    return said


def _both_orders(first: np.ndarray, second: np.ndarray, offset: float) -> list[VerdictLabel]:
    """The verdict on a and b over both orders: where they disagree, a tie."""
    shown = zip((first - offset).tolist(), (second - offset).tolist(), strict=True)
    pairs = [(_label(one), _label(-other)) for one, other in shown]
    return [one if one == other else "tie" for one, other in pairs]  # pyright: ignore[reportReturnType]


def _label(difference: float) -> VerdictLabel:
    return "a" if difference > 0 else "b" if difference < 0 else "tie"


def _agreed(said: Sequence[VerdictLabel], labels: Sequence[Sequence[VerdictLabel]]) -> list[float]:
    return [
        float(np.mean([points_of_agreement(verdict, label) for label in given]))
        for verdict, given in zip(said, labels, strict=True)
    ]
