"""Reward-model accuracy on held-out pairs, several of one post."""

import numpy as np

from bench.evaluate.rules import accuracy, lead
from bench.evaluate.simulation.row import AT_MOST, COVERAGE, Rng, Row, Study, holds, share_of
from bench.evaluate.statistics import ALPHA

ALIKE = 0.2
"""Correlation of being right on two pairs of one post."""
FEW_POSTS = (0.92, 0.995)
"""Twelve posts tell little of their spread; where they show less of it than independent pairs, that is not believed."""


def draw(posts: int, pairs: tuple[int, int], rate: float, alike: float, rng: Rng) -> tuple[list[float], list[int]]:
    """Pair scores, 1 for right, and the post of each: `pairs` (from, to) of a post, whose own rate is beta(rate)."""
    sizes = rng.integers(pairs[0], pairs[1] + 1, posts)
    spread = 1 / alike - 1
    own = rng.beta(rate * spread, (1 - rate) * spread, posts)
    post = np.repeat(np.arange(posts), sizes)
    return (rng.random(post.size) < own[post]).astype(float).tolist(), post.tolist()


def accuracy_coverage(
    posts: int, pairs: tuple[int, int], rate: float, repetitions: int, rng: Rng, alike: float = ALIKE
) -> tuple[float, float]:
    """Shares of intervals that hold the true accuracy: by post, and as if pairs were independent."""
    by_post, by_pair = [], []
    for _ in range(repetitions):
        scores, post = draw(posts, pairs, rate, alike, rng)
        by_post.append(holds(accuracy(scores, 0, posts=post)["ci95"], rate))
        by_pair.append(holds(accuracy(scores, 0)["ci95"], rate))
    return share_of(by_post), share_of(by_pair)


def false_leads(posts: int, pairs: tuple[int, int], repetitions: int, rng: Rng) -> float:
    """Share of p-values below 0.05 where two scorers are equally accurate, each alike on the pairs of a post."""
    found = []
    for _ in range(repetitions):
        sizes = rng.integers(pairs[0], pairs[1] + 1, posts)
        post = np.repeat(np.arange(posts), sizes)
        own = rng.beta(0.7 * 4, 0.3 * 4, (2, posts))
        a, b = (rng.random((2, post.size)) < own[:, post]).astype(float).tolist()
        found.append(lead(a, b, 0, posts=post.tolist())["p_value"] < ALPHA)
    return share_of(found)


def _accuracies(repetitions: int, rng: Rng) -> list[Row]:
    rows = []
    for posts in (12, 30, 100):
        for pairs in ((8, 20), (1, 4)):
            for rate in (0.65, 0.85):
                by_post, by_pair = accuracy_coverage(posts, pairs, rate, repetitions, rng)
                world = f"{posts} posts of {pairs[0]} to {pairs[1]} pairs, true {rate:.0%}"
                promised = COVERAGE if posts > 12 else FEW_POSTS
                limit = f"as if independent {by_pair:.1%}"
                if posts <= 12:
                    limit += (
                        "; twelve posts tell little of their spread, and less than independent pairs is not believed"
                    )
                rows.append(Row("accuracy covers", world, by_post, promised, repetitions, limit))
    return rows


def _leads(repetitions: int, rng: Rng) -> list[Row]:
    return [
        Row(
            "a lead found falsely",
            f"{posts} posts of 8 to 20 pairs",
            false_leads(posts, (8, 20), repetitions, rng),
            AT_MOST,
            repetitions,
        )
        for posts in (12, 30)
    ]


STUDIES = [Study("pairs of one post", _accuracies), Study("leads on pairs of one post", _leads)]
