"""How far verdicts on the same pairs agree, and which way they lean.

The pair is the unit: it weighs the same however many annotators saw it, and its annotators stay together when pairs
are resampled. Pairs of one post stay together too, where `posts` names the post of each.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from itertools import combinations
from typing import Any, Literal, NamedTuple

import krippendorff
import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from bench.evaluate.statistics import (
    RESAMPLES,
    Interval,
    bca_ends,
    estimate,
    no_interval,
    proportion_interval,
    resampled_sums,
)
from bench.evaluate.win_rate import POINTS, Order
from bench.records import VerdictLabel

Posts = Sequence[Hashable] | None
"""The post of each pair; None where every pair has one of its own."""
PARSED: tuple[VerdictLabel, ...] = ("a", "b", "tie")
NO_ESTIMATE = {"value": None, "ci95": None, "n": 0}

LengthBin = Literal["equal", "up to 10 %", "10 to 25 %", "25 to 50 %", "above 50 %"]
LENGTH_BINS: dict[LengthBin, float] = {
    "equal": 0.0,
    "up to 10 %": 0.1,
    "10 to 25 %": 0.25,
    "25 to 50 %": 0.5,
    "above 50 %": 1.0,
}
"""Bin -> the largest difference in it, as a share of the longer summary's length, so that data sets compare."""


class Shown(NamedTuple):
    """A verdict on a pair's a and b, and which of the two was shown first (None where that is not known)."""

    verdict: VerdictLabel
    order: Order | None


def points_of_agreement(one: VerdictLabel, other: VerdictLabel) -> float:
    """1 for the same parsed verdict, 0.5 where one of the two is a tie, 0 for opposite ones."""
    return 1 - abs(POINTS[one] - POINTS[other])


def accuracy(
    verdicts: Sequence[VerdictLabel],
    labels: Sequence[Sequence[VerdictLabel]],
    seed: int,
    resamples: int = RESAMPLES,
    posts: Posts = None,
) -> dict[str, Any]:
    """Estimate of how often a judge says what the annotators say, a tie against a decision counting half.

    Args:
        verdicts: one per pair; pairs that are `unparsed` leave n.
        labels: per pair, one label per annotator; a pair's value is the mean over them.
    """
    values = [
        None if verdict == "unparsed" else float(np.mean([points_of_agreement(verdict, label) for label in given]))
        for verdict, given in zip(verdicts, labels, strict=True)
    ]
    return _share(values, seed, resamples, posts)


def kappa(
    verdicts: Sequence[VerdictLabel],
    labels: Sequence[Sequence[VerdictLabel]],
    seed: int,
    resamples: int = RESAMPLES,
    posts: Posts = None,
) -> dict[str, Any]:
    """Estimate of Cohen's kappa (1960) of a judge and the annotators over a, b and tie, which are not ordered here.

    Agreement beyond what two raters of these habits reach by chance: 0 none, 1 complete. Arguments as in `accuracy`;
    a pair with m labels puts 1/m of a count for each into the table. The interval is BCa over pairs, or over posts. The
    value is None where both only ever say one and the same thing: chance alone explains that completely.
    """
    tables = []
    for verdict, given in zip(verdicts, labels, strict=True):
        table = np.zeros((len(PARSED), len(PARSED)))
        if verdict != "unparsed":
            for label in given:
                table[PARSED.index(verdict), PARSED.index(label)] += 1 / len(given)
        tables.append(None if verdict == "unparsed" else table)
    return kappa_of_tables(tables, seed, resamples, posts)


def kappa_of_tables(
    tables: Sequence[np.ndarray | None], seed: int, resamples: int = RESAMPLES, posts: Posts = None
) -> dict[str, Any]:
    """Estimate of Cohen's kappa from one table (3, 3) per unit, as `kappa`; whole units, or posts, are resampled.

    Rows are what the one rater says (a, b, tie), columns what the other says.
    """

    def kappa_of(kinds: np.ndarray, counts: np.ndarray) -> float:
        table = (counts @ kinds).reshape(len(PARSED), len(PARSED))
        expected = table.sum(0) @ table.sum(1)
        if math.isclose(expected, table.sum() ** 2):
            return math.nan
        return cohens_kappa(table, return_results=False)  # pyright: ignore[reportReturnType]

    rows = [None if table is None else table.ravel() for table in tables]
    return _bca(rows, kappa_of, seed, resamples, posts)


def krippendorff_alpha(
    labels: Sequence[Sequence[VerdictLabel]], seed: int, resamples: int = RESAMPLES, posts: Posts = None
) -> dict[str, Any]:
    """Estimate of Krippendorff's alpha (2004, nominal) of the annotators, over the pairs that at least two labelled.

    0 is what chance gives, 1 complete agreement. The interval is BCa over pairs, or over posts. The value is None where
    all labels are the same: nothing shows that the annotators can tell anything apart.
    """
    counts = [[given.count(label) for label in PARSED] if len(given) > 1 else None for given in map(list, labels)]

    def alpha_of(kinds: np.ndarray, times: np.ndarray) -> float:
        table = np.repeat(kinds, times, axis=0)
        if np.count_nonzero(table.sum(0)) < 2:
            return math.nan
        return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))

    return _bca(counts, alpha_of, seed, resamples, posts)


def pairwise_agreement(
    labels: Sequence[Sequence[VerdictLabel]], seed: int, resamples: int = RESAMPLES, posts: Posts = None
) -> dict[str, Any]:
    """Estimate of how often two annotators of one pair agree, a tie against a decision counting half.

    Comparable with `accuracy` on the same pairs; those that fewer than two labelled are left out.
    """
    values = [
        float(np.mean([points_of_agreement(*two) for two in combinations(given, 2)])) if len(given) > 1 else None
        for given in labels
    ]
    return _share(values, seed, resamples, posts)


def position_bias(
    shown: Sequence[Sequence[Shown]], seed: int, resamples: int = RESAMPLES, posts: Posts = None
) -> dict[str, Any]:
    """Estimate of the share of decided verdicts that go to the summary shown first, 0.5 where position is ignored.

    `shown` has the verdicts on each pair; ties, and verdicts whose order is not known, say nothing here.
    """
    values = []
    for given in shown:
        first = [
            float((verdict == "a") == (order == "ab"))
            for verdict, order in given
            if verdict in ("a", "b") and order is not None
        ]
        values.append(float(np.mean(first)) if first else None)
    return _share(values, seed, resamples, posts)


def length_bias(
    verdicts: Sequence[Sequence[VerdictLabel]],
    lengths: Sequence[tuple[int, int]],
    seed: int,
    resamples: int = RESAMPLES,
    posts: Posts = None,
) -> dict[str, Any]:
    """Estimate of the share of decided verdicts that go to the longer summary, and `equal_length`.

    Summaries of equal length count half, so that this is the accuracy of the rule "longer wins" on the verdicts;
    `equal_length` is the number of such pairs. Where there are no others, n is 0.

    Args:
        verdicts: the verdicts on each pair; ties say nothing here.
        lengths: of each pair's a and b, in the unit of choice.
    """
    values, equal = [], 0
    for given, (a, b) in zip(verdicts, lengths, strict=True):
        longer: VerdictLabel = "tie" if a == b else "a" if a > b else "b"
        decided = [points_of_agreement(verdict, longer) for verdict in given if verdict in ("a", "b")]
        values.append(float(np.mean(decided)) if decided else None)
        equal += bool(decided) and a == b
    if equal == len(values) - values.count(None):
        return dict(NO_ESTIMATE) | {"equal_length": equal}
    return _share(values, seed, resamples, posts) | {"equal_length": equal}


def length_bin(a: int, b: int) -> LengthBin:
    """The bin of two summaries' difference in length, relative to the longer one."""
    difference = abs(a - b) / max(a, b, 1)
    return next(name for name, largest in LENGTH_BINS.items() if difference <= largest)


def _share(values: Sequence[float | None], seed: int, resamples: int, posts: Posts) -> dict[str, Any]:
    """Estimate of the mean over the pairs that have a value."""
    there = [i for i, value in enumerate(values) if value is not None]
    if not there:
        return dict(NO_ESTIMATE)
    of_pairs = None if posts is None else [posts[i] for i in there]
    return estimate(proportion_interval([values[i] for i in there], seed, resamples, of_pairs))  # pyright: ignore[reportArgumentType]


def _bca(
    rows: Sequence[Sequence[float] | np.ndarray | None],
    statistic: Callable[[np.ndarray, np.ndarray], float],
    seed: int,
    resamples: int,
    posts: Posts,
) -> dict[str, Any]:
    """Estimate of `statistic` with its BCa interval over posts; null where it is not defined or does not vary.

    Few kinds of rows exist, so the statistic takes the distinct rows (K, D) and how often each is there (K,), and is
    computed once per distinct count. It is NaN where it is not defined; in a resample that counts as 0, no agreement
    beyond chance. Pairs that have no row are left out; without `posts` each is of a post of its own.
    """
    there = [i for i, row in enumerate(rows) if row is not None]
    if not there:
        return dict(NO_ESTIMATE)
    kinds, kind = np.unique(np.asarray([rows[i] for i in there], dtype=np.float64), axis=0, return_inverse=True)
    code = {post: i for i, post in enumerate(dict.fromkeys(there if posts is None else [posts[i] for i in there]))}
    of_posts = np.zeros((len(code), len(kinds)), dtype=np.int64)  # how often each post has each kind
    np.add.at(of_posts, (np.array([code[i if posts is None else posts[i]] for i in there]), kind), 1)
    value = statistic(kinds, of_posts.sum(0))
    if math.isnan(value):
        return {"value": None, "ci95": None, "n": len(there)}

    @cache
    def of_counts(counts: tuple[int, ...]) -> float:
        found = statistic(kinds, np.array(counts))
        return 0.0 if math.isnan(found) else found

    low = high = math.nan
    if len(code) > 1:
        everything = of_posts.sum(0)
        drawn, without = (
            np.array([of_counts(tuple(row)) for row in counts.tolist()])
            for counts in (np.rint(resampled_sums(of_posts, seed, resamples)).astype(np.int64), everything - of_posts)
        )
        low, high = bca_ends(drawn, without, value)
    if not (math.isfinite(low) and math.isfinite(high)):
        which = "pairs" if posts is None else "posts"
        return estimate(no_interval(value, len(there), f"it is the same whichever {which} are drawn"))
    return estimate(Interval(value, float(low), float(high), len(there)))
