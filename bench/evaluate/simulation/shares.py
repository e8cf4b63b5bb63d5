"""Shares and means over independent prompts: win rates, differences of paired scores, ROUGE."""

from collections.abc import Callable

import numpy as np

from bench.evaluate.simulation.row import COVERAGE, Rng, Row, Study, share_of
from bench.evaluate.statistics import bootstrap_mean, paired_difference, score_interval

COUNTED = 20
"""Repetitions for one of those asked, where counts are drawn and no value is."""


def win_rate_coverage(n: int, rate: float, ties: float, repetitions: int, rng: Rng) -> float:
    """Share of win-rate intervals over n prompts that hold the true `rate`, a share `ties` of the verdicts ties."""
    win = rate - ties / 2
    wins, losses, _ = rng.multinomial(n, [win, 1 - win - ties, ties], repetitions).T
    low, high = score_interval(wins, losses, n)
    return share_of((low <= rate + 1e-12) & (rate - 1e-12 <= high))


def mean_coverage(draw: Callable[[Rng, int], np.ndarray], mean: float, n: int, repetitions: int, rng: Rng) -> float:
    """Share of bootstrap intervals of n values that hold the true mean of what `draw(rng, n)` draws from."""
    found = (bootstrap_mean(draw(rng, n).tolist(), seed) for seed in range(repetitions))
    return share_of([interval.low <= mean <= interval.high for interval in found])


def difference_coverage(n: int, repetitions: int, rng: Rng) -> float:
    """Share of intervals of a paired difference of scores (0, 0.5 or 1 each) that hold the true one, 0.1."""
    hits = []
    for seed in range(repetitions):
        d = rng.choice([-1.0, -0.5, 0, 0.5, 1], n, p=[0.1, 0.05, 0.6, 0.05, 0.2])
        found = paired_difference(d.tolist(), [0.0] * n, seed, bounds=(-1, 1))
        hits.append(found.low <= 0.1 <= found.high)
    return share_of(hits)


def _win_rates(repetitions: int, rng: Rng) -> list[Row]:
    rows = []
    for n in (64, 128, 256):
        for rate in (0.5, 0.7, 0.9):
            for ties in (0.0, 0.15):
                share = win_rate_coverage(n, rate, ties, COUNTED * repetitions, rng)
                world = f"n {n}, true {rate:.0%}, ties {ties:.0%}"
                rows.append(Row("win rate covers", world, share, COVERAGE, COUNTED * repetitions))
    return rows


def _f1_scores(repetitions: int, rng: Rng) -> list[Row]:
    share = mean_coverage(lambda rng, n: rng.beta(2, 6, n), 0.25, 256, repetitions, rng)
    return [Row("mean covers", "n 256, F1 scores", share, COVERAGE, repetitions)]


def _differences(repetitions: int, rng: Rng) -> list[Row]:
    return [
        Row("paired difference covers", f"n {n}", difference_coverage(n, repetitions, rng), COVERAGE, repetitions)
        for n in (48, 256)
    ]


STUDIES = [
    Study("win rates", _win_rates),
    Study("F1 scores", _f1_scores),
    Study("paired differences", _differences),
]
