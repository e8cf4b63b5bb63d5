"""What has an interval of a kind of its own: distinct-n of all summaries together, and the room above a policy."""

import numpy as np

from bench.evaluate.extractive import distinct_ngrams
from bench.evaluate.simulation.row import COVERAGE, Rng, Row, Study, holds, share_of
from bench.evaluate.statistics import bootstrap_mean, estimate, ratio_of_means

WORDS = 2000
"""In the vocabulary; the k-th is used in proportion to 1 / k."""
WIDE = (COVERAGE[0], 1.0)


def summaries(n: int, rng: Rng) -> list[list[str]]:
    """n summaries of 10 to 30 words, each with words of its own topic beside those that all use."""
    chance = 1 / np.arange(1, WORDS + 1)
    chance /= chance.sum()
    found = []
    for size in rng.integers(10, 31, n):
        topic, common = rng.integers(WORDS), rng.choice(WORDS, size, p=chance)
        found.append([str((topic + k) % WORDS if rng.random() < 0.2 else w) for k, w in enumerate(common)])
    return found


def distinct_coverage(n: int, grams: int, repetitions: int, rng: Rng) -> float:
    """Share of intervals that hold what distinct-`grams` of n such summaries is on average."""
    found = [[v for v in distinct_ngrams(summaries(n, rng), grams) if v is not None] for _ in range(repetitions)]
    plain = [float(np.mean(values)) for values in found]  # the average of as many is within 0.2 standard errors
    ends = [estimate(bootstrap_mean(values, seed))["ci95"] for seed, values in enumerate(found)]
    return share_of([holds(one, float(np.mean(plain))) for one in ends])


def headroom_coverage(n: int, repetitions: int, rng: Rng) -> float:
    """Share of intervals that hold (best - policy) / (best - worst), three rewards of one post."""
    hits = []
    for seed in range(repetitions):
        facts = rng.gamma(4.0, 0.5, n)  # best, 2 on average; a policy keeps a share of them, the worst loses some more
        policy, worst = facts * rng.beta(4, 2, n), -rng.exponential(1.0, n)
        interval = ratio_of_means(facts - policy, facts - worst, seed)
        hits.append(holds(estimate(interval)["ci95"], (2 - 2 * 4 / 6) / (2 + 1)))
    return share_of(hits)


def _distinct(repetitions: int, rng: Rng) -> list[Row]:
    limit = "a jackknife errs on the wide side"
    return [
        Row(
            f"distinct-{grams} covers",
            f"n {n}",
            distinct_coverage(n, grams, repetitions, rng),
            WIDE,
            repetitions,
            limit,
        )
        for n in (48, 256)
        for grams in (1, 2)
    ]


def _headroom(repetitions: int, rng: Rng) -> list[Row]:
    return [
        Row("headroom covers", f"n {n}", headroom_coverage(n, repetitions, rng), COVERAGE, repetitions)
        for n in (48, 256)
    ]


STUDIES = [Study("distinct n-grams", _distinct), Study("headroom", _headroom)]
