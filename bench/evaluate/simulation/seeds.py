"""Means over seeds that share their prompts: shares, and differences of two arms."""

import numpy as np
from scipy.special import expit

from bench.evaluate.seeds import mean_over_seeds
from bench.evaluate.simulation.row import COVERAGE, Rng, Row, Study, holds, share_of
from bench.evaluate.statistics import Z

FEW_SEEDS = (0.91, 0.985)


def seed_coverage(
    seeds: int, n: int, quality: float, of_seeds: float, of_prompts: float, repetitions: int, rng: Rng
) -> tuple[float, float]:
    """Shares of intervals that hold the mean over all seeds and prompts: of a win rate, and of a difference of two.

    logit P(win) = quality + a seed's own + a prompt's own, normal with these standard deviations; a second arm has
    the same prompts and seeds of its own, and the same mean.
    """
    grid = np.linspace(-8, 8, 4001)
    weights = np.exp(-(grid**2) / 2)
    truth = float(np.average(expit(quality + np.hypot(of_seeds, of_prompts) * grid), weights=weights))
    rates, differences = [], []
    for _ in range(repetitions):
        prompts = of_prompts * rng.normal(size=n)
        won = rng.random((2, seeds, n)) < expit(quality + of_seeds * rng.normal(size=(2, seeds, 1)) + prompts)
        for table, bounds, true, hits in (
            (won[0].astype(float), (0, 1), truth, rates),
            (won[0].astype(float) - won[1], (-1, 1), 0.0, differences),
        ):
            points = [dict(enumerate(row)) for row in table.tolist()]
            estimates = [_estimate(row, n) for row in table]
            hits.append(holds(mean_over_seeds(estimates, bounds, points)["ci95"], true))  # pyright: ignore[reportArgumentType]
    return share_of(rates), share_of(differences)


def _estimate(row: np.ndarray, n: int) -> dict:
    half = Z * float(row.std()) / n**0.5
    return {"value": float(row.mean()), "ci95": [float(row.mean()) - half, float(row.mean()) + half], "n": n}


def _study(seeds: int) -> Study:
    def measure(repetitions: int, rng: Rng) -> list[Row]:
        rows = []
        for quality, of_seeds, of_prompts in ((0.5, 0.3, 1.5), (0.5, 0.0, 1.5), (1.5, 0.6, 1.0)):
            found = seed_coverage(seeds, 128, quality, of_seeds, of_prompts, repetitions, rng)
            world = f"{seeds} seeds, 128 prompts, spread {of_seeds:g} and {of_prompts:g} logits at {quality:+.1f}"
            promised, limit = (COVERAGE, "") if seeds > 3 else (FEW_SEEDS, "three seeds tell little of their spread")
            if of_seeds == 0:
                promised, limit = (promised[0], 0.985), "seeds that do not differ are not known not to"
            for what, share in zip(("win rate", "difference"), found, strict=True):
                rows.append(Row(f"{what} over seeds covers", world, share, promised, repetitions, limit))
        return rows

    return Study(f"{seeds} seeds", measure)


STUDIES = [_study(seeds) for seeds in (3, 5, 8)]
