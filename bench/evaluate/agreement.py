"""How far verdicts on the same pairs agree, and which way they lean.

The pair is the unit: it weighs the same however many annotators saw it, and its annotators stay together when pairs
are resampled.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations
from typing import Any, Literal, NamedTuple

import krippendorff
import numpy as np
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from bench.evaluate.statistics import (
    ALPHA,
    BATCH_ELEMENTS,
    RESAMPLES,
    Interval,
    estimate,
    no_interval,
    proportion_interval,
)
from bench.evaluate.win_rate import POINTS, Order
from bench.records import VerdictLabel

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
    verdicts: Sequence[VerdictLabel], labels: Sequence[Sequence[VerdictLabel]], seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Estimate of how often a judge says what the annotators say, a tie against a decision counting half.

    Args:
        verdicts: one per pair; pairs that are `unparsed` leave n.
        labels: per pair, one label per annotator; a pair's value is the mean over them.
    """
    values = [
        float(np.mean([points_of_agreement(verdict, label) for label in given]))
        for verdict, given in zip(verdicts, labels, strict=True)
        if verdict != "unparsed"
    ]
    return _share(values, seed, resamples)


def kappa(
    verdicts: Sequence[VerdictLabel], labels: Sequence[Sequence[VerdictLabel]], seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Estimate of Cohen's kappa (1960) of a judge and the annotators over a, b and tie, which are not ordered here.

    Agreement beyond what two raters of these habits reach by chance: 0 none, 1 complete. Arguments as in `accuracy`;
    a pair with m labels puts 1/m of a count for each into the table. The interval is BCa over pairs. The value is
    None where both only ever say one and the same thing: chance alone explains that completely.
    """
    tables = []
    for verdict, given in zip(verdicts, labels, strict=True):
        if verdict != "unparsed":
            table = np.zeros((len(PARSED), len(PARSED)))
            for label in given:
                table[PARSED.index(verdict), PARSED.index(label)] += 1 / len(given)
            tables.append(table)
    return kappa_of_tables(tables, seed, resamples)


def kappa_of_tables(tables: Sequence[np.ndarray], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Estimate of Cohen's kappa from one table (3, 3) per unit, as `kappa`; whole units are resampled.

    Rows are what the one rater says (a, b, tie), columns what the other says.
    """

    def kappa_of(kinds: np.ndarray, counts: np.ndarray) -> float:
        table = (counts @ kinds).reshape(len(PARSED), len(PARSED))
        expected = table.sum(0) @ table.sum(1)
        if math.isclose(expected, table.sum() ** 2):
            return math.nan
        return cohens_kappa(table, return_results=False)  # pyright: ignore[reportReturnType]

    return _bca_over_pairs([table.ravel() for table in tables], kappa_of, seed, resamples)


def krippendorff_alpha(
    labels: Sequence[Sequence[VerdictLabel]], seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Estimate of Krippendorff's alpha (2004, nominal) of the annotators, over the pairs that at least two labelled.

    0 is what chance gives, 1 complete agreement. The interval is BCa over pairs. The value is None where all labels
    are the same: nothing shows that the annotators can tell anything apart.
    """
    counts = [[given.count(label) for label in PARSED] for given in map(list, labels) if len(given) > 1]

    def alpha_of(kinds: np.ndarray, times: np.ndarray) -> float:
        table = np.repeat(kinds, times, axis=0)
        if np.count_nonzero(table.sum(0)) < 2:
            return math.nan
        return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))

    return _bca_over_pairs(counts, alpha_of, seed, resamples)


def pairwise_agreement(
    labels: Sequence[Sequence[VerdictLabel]], seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Estimate of how often two annotators of one pair agree, a tie against a decision counting half.

    Comparable with `accuracy` on the same pairs; those that fewer than two labelled are left out.
    """
    values = [
        float(np.mean([points_of_agreement(*two) for two in combinations(given, 2)]))
        for given in labels
        if len(given) > 1
    ]
    return _share(values, seed, resamples)


def position_bias(shown: Sequence[Sequence[Shown]], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
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
        if first:
            values.append(float(np.mean(first)))
    return _share(values, seed, resamples)


def length_bias(
    verdicts: Sequence[Sequence[VerdictLabel]],
    lengths: Sequence[tuple[int, int]],
    seed: int,
    resamples: int = RESAMPLES,
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
        if decided:
            values.append(float(np.mean(decided)))
            equal += a == b
    return _share(values if equal < len(values) else [], seed, resamples) | {"equal_length": equal}


def length_bin(a: int, b: int) -> LengthBin:
    """The bin of two summaries' difference in length, relative to the longer one."""
    difference = abs(a - b) / max(a, b, 1)
    return next(name for name, largest in LENGTH_BINS.items() if difference <= largest)


def _share(values: Sequence[float], seed: int, resamples: int) -> dict[str, Any]:
    return estimate(proportion_interval(values, seed, resamples)) if values else dict(NO_ESTIMATE)


def _bca_over_pairs(
    rows: Sequence[Sequence[float] | np.ndarray],
    statistic: Callable[[np.ndarray, np.ndarray], float],
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """Estimate of `statistic` with its BCa interval over pairs; null where it is not defined or does not vary.

    Few kinds of rows exist, so the statistic takes the distinct rows (K, D) and how often each is there (K,), and is
    computed once per distinct count. It is NaN where it is not defined; in a resample that counts as 0, no agreement
    beyond chance.
    """
    if not rows:
        return dict(NO_ESTIMATE)
    kinds, codes = np.unique(np.asarray(rows, dtype=np.float64), axis=0, return_inverse=True)
    value = statistic(kinds, np.bincount(codes))
    if math.isnan(value):
        return {"value": None, "ci95": None, "n": len(codes)}

    @cache
    def of_counts(counts: tuple[int, ...]) -> float:
        found = statistic(kinds, np.array(counts))
        return 0.0 if math.isnan(found) else found

    low = high = math.nan
    if len(codes) > 1:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=stats.DegenerateDataWarning)
            warnings.filterwarnings("ignore", category=RuntimeWarning)  # 0/0 in the acceleration of equal resamples
            low, high = stats.bootstrap(
                (codes,),
                lambda sample: of_counts(tuple(np.bincount(sample, minlength=len(kinds)))),
                n_resamples=resamples,
                batch=max(1, BATCH_ELEMENTS // len(codes)),
                confidence_level=1 - ALPHA,
                method="BCa",
                vectorized=False,
                rng=np.random.default_rng(seed),
            ).confidence_interval
    if not (math.isfinite(low) and math.isfinite(high)):
        return estimate(no_interval(value, len(codes), "it is the same whichever pairs are drawn"))
    return estimate(Interval(value, float(low), float(high), len(codes)))
