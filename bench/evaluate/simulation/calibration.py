"""Calibration error, overconfidence and Brier score of a scorer whose calibration is known."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr

from bench.evaluate.calibration import BINS, calibration_error
from bench.evaluate.rules import accuracy
from bench.evaluate.simulation.row import COVERAGE, Rng, Row, Study, holds, share_of
from bench.evaluate.statistics import estimate, paired_difference

RESAMPLES = 500
FOLDED = (0.9, 1.0)
"""Of the ECE: a mean of distances has no symmetric error, and the bins' noise is taken out of it on average alone."""


@dataclass(frozen=True)
class Scorer:
    """P(right) = sigma(slope |margin|), margins normal with sd 1.5 nats: calibrated at slope 1, overconfident below.

    Pairs of one post are right together: what settles them is normal, a share `alike` of its variance the post's.
    """

    slope: float
    alike: float = 0.0

    def judged(self, posts: int, pairs: int, rng: Rng) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Confidence, right or not, and the post of every pair; `pairs` of each post."""
        post = np.repeat(np.arange(posts), pairs)
        margin = np.abs(1.5 * rng.normal(size=post.size))
        shared, own = rng.normal(size=posts)[post], rng.normal(size=post.size)
        luck = ndtr(self.alike**0.5 * shared + (1 - self.alike) ** 0.5 * own)
        return expit(margin), (luck < expit(self.slope * margin)).astype(float), post.tolist()

    @property
    def truths(self) -> dict[str, float]:
        """Over all pairs there are: the error between the same bins, overconfidence, Brier score."""
        margin = np.linspace(0, 9, 90_001)
        weight = np.exp(-((margin / 1.5) ** 2) / 2)
        weight /= weight.sum()
        confidence, right = expit(margin), expit(self.slope * margin)
        bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
        return {
            "ECE": float(np.abs(np.bincount(bins, weight * (right - confidence))).sum()),
            "overconfidence": float((weight * (confidence - right)).sum()),
            "Brier score": float((weight * (right * (1 - confidence) ** 2 + (1 - right) * confidence**2)).sum()),
        }


def calibration_coverage(scorer: Scorer, posts: int, pairs: int, repetitions: int, rng: Rng) -> dict[str, float]:
    """Shares of intervals that hold the truth, by name as in `Scorer.truths`."""
    hits: dict[str, list[bool]] = {name: [] for name in scorer.truths}
    for seed in range(repetitions):
        confidence, right, post = scorer.judged(posts, pairs, rng)
        surplus = paired_difference(confidence.tolist(), right.tolist(), seed, bounds=(-1, 1), posts=post)
        squared = np.where(right == 1, 1 - confidence, confidence) ** 2
        found = {
            "ECE": estimate(calibration_error(confidence, right, seed, RESAMPLES, post)[0]),
            "overconfidence": estimate(surplus),
            "Brier score": accuracy(squared.tolist(), seed, posts=post),
        }
        for name, truth in scorer.truths.items():
            hits[name].append(holds(found[name]["ci95"], truth))
    return {name: share_of(of_name) for name, of_name in hits.items()}


def _study(name: str, scorer: Scorer, sizes: tuple[tuple[int, int], ...]) -> Study:
    def measure(repetitions: int, rng: Rng) -> list[Row]:
        rows = []
        for posts, pairs in sizes:
            world = f"{posts} posts of {pairs} pairs, {name}" if pairs > 1 else f"{posts} pairs, {name}"
            for what, share in calibration_coverage(scorer, posts, pairs, repetitions, rng).items():
                promised, limit = COVERAGE, ""
                if what == "ECE":
                    promised, limit = (
                        FOLDED,
                        f"true {scorer.truths[what]:.3f}: it cannot be below 0, and covers 90 % or more",
                    )
                rows.append(Row(f"{what} covers", world, share, promised, repetitions, limit))
        return rows

    return Study(f"calibration, {name}", measure)


STUDIES = [
    _study("calibrated", Scorer(1.0), ((100, 1), (500, 1))),
    _study("overconfident", Scorer(0.6), ((100, 1), (500, 1))),
    _study("underconfident", Scorer(1.7), ((250, 1),)),
    _study("overconfident, pairs alike", Scorer(0.6, alike=0.3), ((60, 8),)),
]
