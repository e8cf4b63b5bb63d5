"""KL per completion: light tails, heavy ones, and the README's DPO run drawn from again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.evaluate.heavy_tails import mean_with_tail
from bench.evaluate.simulation.row import COVERAGE, Rng, Row, Study, holds, share_of
from bench.files import read_jsonl

README_RUN = Path(__file__).parents[3] / "results/reference/builtin/completions/dpo.jsonl"
"""Its KLs are the population: where the tree is not a checkout, these worlds are left out."""
SAYS_SO = (COVERAGE[0], 1.0)


def tail_coverage(
    draw: Callable[[Rng, int], np.ndarray], mean: float, median: float, n: int, repetitions: int, rng: Rng
) -> dict[str, float]:
    """Shares: "covers" (intervals that hold the mean), "or says so" (hold it, or come with a limit), "limit" (come with
    one, or not at all: equal values), "median" (intervals of the median that hold it)."""
    hits: dict[str, list[bool]] = {"covers": [], "or says so": [], "limit": [], "median": []}
    for _ in range(repetitions):
        found = mean_with_tail(draw(rng, n).tolist())
        covered, limited = holds(found["ci95"], mean), found["limit"] is not None or found["ci95"] is None
        for name, hit in (("covers", covered), ("or says so", covered or limited), ("limit", limited)):
            hits[name].append(hit)
        hits["median"].append(holds(found["median"]["ci95"], median))
    return {name: share_of(outcomes) for name, outcomes in hits.items()}


def _study(
    name: str, draw: Callable[[Rng, int], np.ndarray], mean: float, median: float, sizes: tuple[int, ...]
) -> Study:
    def measure(repetitions: int, rng: Rng) -> list[Row]:
        rows = []
        for n in sizes:
            found = tail_coverage(draw, mean, median, n, repetitions, rng)
            limit = f"covers {found['covers']:.1%}; says that it cannot in {found['limit']:.1%}"
            world = f"n {n}, {name}"
            # Where a limit comes with the interval hardly ever, coverage itself is promised.
            if found["limit"] < 0.05:
                rows.append(Row("KL mean covers", world, found["covers"], COVERAGE, repetitions))
            else:
                rows.append(Row("KL mean covers or says so", world, found["or says so"], SAYS_SO, repetitions, limit))
            rows.append(Row("KL median covers", world, found["median"], (COVERAGE[0], 0.985), repetitions))
        return rows

    return Study(f"KL, {name}", measure)


def _again(kls: np.ndarray) -> Callable[[Rng, int], np.ndarray]:
    return lambda rng, n: rng.choice(kls, n)


STUDIES = [
    _study("gamma(1.5)", lambda rng, n: rng.gamma(1.5, 2.0, n), 3.0, 2.36597, (256, 1000)),
    _study("exp(normal(0, 1))", lambda rng, n: rng.lognormal(0, 1, n), float(np.exp(0.5)), 1.0, (256, 1000)),
    _study(
        "1 in 50 at 50 nats",
        lambda rng, n: np.where(rng.random(n) < 0.02, 50.0, rng.gamma(2.0, 0.7, n)),
        0.02 * 50 + 0.98 * 1.4,
        1.19714,
        (256, 1000),
    ),
]
if README_RUN.exists():
    _KLS = np.array([row["kl"] for row in read_jsonl(README_RUN)])
    STUDIES.append(
        _study("README's DPO run", _again(_KLS), float(_KLS.mean()), float(np.median(_KLS)), (48, 256, 1000))
    )
