"""Whether a reward model means what it says: sigma(margin) as the probability that the better-scored summary is chosen.

The margin is the difference of a pair's two scores in nats (Bradley-Terry). Its confidence, sigma(|margin|), lies
between one half and 1, and is right in the long run if that share of such pairs is labelled so.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy import special, stats

from bench.errors import DataError
from bench.evaluate.rules import accuracy, pair_scores
from bench.evaluate.statistics import (
    ALPHA,
    BATCH_ELEMENTS,
    RESAMPLES,
    Interval,
    estimate,
    paired_difference,
    proportion_interval,
)

BINS = 10
"""Of equal width between one half and 1, as Guo et al. 2017 bin confidences."""


def calibration(
    chosen: Sequence[float],
    rejected: Sequence[float],
    seed: int,
    resamples: int = RESAMPLES,
    posts: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """`curve`, `ece`, `overconfidence` and `brier` of a scorer, from its scores of held-out pairs.

    `brier` is the mean of (1 - sigma(margin))^2, .25 for a coin; `overconfidence` mean confidence less accuracy.

    Args:
        posts: of each pair, where a post may have several: they are resampled together.
    """
    margins = np.subtract(chosen, rejected)
    confidence, right = special.expit(np.abs(margins)), np.array(pair_scores(chosen, rejected))
    squared = (special.expit(-margins) ** 2).tolist()
    surplus = paired_difference(confidence.tolist(), right.tolist(), seed, resamples, bounds=(-1, 1), posts=posts)
    interval, binned = calibration_error(confidence, right, seed, resamples, posts)
    return {
        "brier": estimate(proportion_interval(squared, seed, resamples, posts)),
        "overconfidence": estimate(surplus),
        "ece": estimate(interval) | {"binned": binned},
        "curve": _curve(confidence, right, seed, resamples, posts),
    }


def calibration_error(
    confidence: np.ndarray,
    right: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    posts: Sequence[Hashable] | None = None,
) -> tuple[Interval, float]:
    """Expected calibration error, the mean distance of accuracy from confidence over bins, and the plain binned one.

    The plain one (Naeini et al. 2015) is above 0 for any scorer, the more so the fewer pairs: .10 on 100 pairs of a
    calibrated one. So the noise's variance is taken from each bin's squared distance first; from that of a resample
    twice, for it has the noise of the sample and its own. The interval is the resamples' percentiles, down to 0 where
    a chi-squared test does not reject calibration (its statistic adds up over bins; Hosmer & Lemeshow 1980). By
    simulation it covers 90 to 100 %, from calibrated scorers to errors of .08 (`bench.evaluate.simulation`).

    Raises:
        DataError: no pairs.
    """
    if not confidence.size:
        raise DataError("cannot tell how well a reward model is calibrated: no pairs were scored")
    names = range(confidence.size) if posts is None else posts
    code = {post: row for row, post in enumerate(dict.fromkeys(names))}
    post, bins = np.array([code[name] for name in names]), _bin(confidence)
    # (posts, BINS) sums over a post's pairs in a bin: pairs, surplus of accuracy, right ones.
    sums = [np.zeros((len(code), BINS)) for _ in range(3)]
    for table, values in zip(sums, (np.ones_like(confidence), right - confidence, right), strict=True):
        np.add.at(table, (post, bins), values)

    noise = _design_effect(*sums)
    rng, drawn, surpluses = np.random.default_rng(seed), [], []
    chunk = max(1, BATCH_ELEMENTS // len(code))
    for start in range(0, resamples, chunk):
        times = rng.multinomial(
            len(code), np.full(len(code), 1 / len(code)), size=min(chunk, resamples - start)
        ).astype(float)
        tables = [times @ table for table in sums]
        drawn.append(_error(*tables, noises=2 * noise))
        surpluses.append(tables[1])
    low, high = np.quantile(np.concatenate(drawn), [ALPHA / 2, 1 - ALPHA / 2])
    whole = [table.sum(0, keepdims=True) for table in sums]
    if not _is_rejected(whole[1][0], confidence, bins, np.concatenate(surpluses).var(0)):
        low = 0.0
    binned = float(np.abs(whole[1]).sum() / confidence.size)
    return Interval(float(_error(*whole, noises=noise)[0]), float(low), float(high), confidence.size), binned


def _design_effect(pairs: np.ndarray, surplus: np.ndarray, right: np.ndarray) -> float:
    """How much more the bins' surpluses vary where pairs of one post agree than if all pairs were independent; (posts,
    BINS) each."""
    n = pairs.sum(0)
    if pairs.sum() == len(pairs):  # a pair a post
        return 1.0
    between = ((surplus - pairs * surplus.sum(0) / np.maximum(n, 1)) ** 2).sum()
    return max(1.0, float(between / (n * _chance(n, right.sum(0))).sum()))


def _chance(pairs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Variance of being right on one pair of a bin; by Laplace's rule, for a few pairs all right are no certainty."""
    share = (right + 1) / (pairs + 2)
    return share * (1 - share)


def _error(pairs: np.ndarray, surplus: np.ndarray, right: np.ndarray, noises: float) -> np.ndarray:
    """(samples,) mean over bins of |accuracy - confidence|, less `noises` times what chance adds to its square."""
    n = np.maximum(pairs, 1)
    squared = (surplus / n) ** 2 - noises * _chance(pairs, right) / n
    return (pairs * np.sqrt(np.maximum(squared, 0))).sum(1) / pairs.sum(1)


def _is_rejected(surplus: np.ndarray, confidence: np.ndarray, bins: np.ndarray, resampled: np.ndarray) -> bool:
    """Whether accuracy is further from confidence, bin by bin, than chance takes it.

    Args:
        resampled: variance of each bin's surplus over resamples of posts, which is larger where pairs of one post
            agree.
    """
    variance = np.maximum(np.bincount(bins, confidence * (1 - confidence), BINS), resampled)
    there = variance > 0
    return bool(stats.chi2.sf((surplus[there] ** 2 / variance[there]).sum(), there.sum()) < ALPHA)


def _curve(
    confidence: np.ndarray, right: np.ndarray, seed: int, resamples: int, posts: Sequence[Hashable] | None
) -> list[dict[str, Any]]:
    """The bins that have pairs, from the least confident: edges, mean confidence, and the estimate of accuracy."""
    edges, bins = np.linspace(0.5, 1, BINS + 1), _bin(confidence)
    rows = []
    for i in np.unique(bins):
        there = np.flatnonzero(bins == i)
        of_bin = None if posts is None else [posts[row] for row in there]  # pyright: ignore[reportArgumentType, reportCallIssue]
        rows.append(
            {
                "confidence": [float(edges[i]), float(edges[i + 1])],
                "mean_confidence": float(confidence[there].mean()),
                **accuracy(right[there].tolist(), seed, resamples, of_bin),
            }
        )
    return rows


def _bin(confidence: np.ndarray) -> np.ndarray:
    return np.clip(((confidence - 0.5) * 2 * BINS).astype(int), 0, BINS - 1)
