"""Worlds in which a judge likes length: do length-controlled win rates cover the true ones?"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bench.evaluate.length_control import Sized, length_controlled_win_rates


@dataclass(frozen=True)
class LengthWorld:
    """Arms that differ in length from one opponent, and a judge that likes length.

    logit P(arm m wins on prompt i) = quality_m + liking_m f(d_mi) + difficulty (z_i - g_i) / sqrt(2), where d is the
    length difference, f is tanh(d / sd) as the model of the evaluator has it, or d / sd itself, which it has not; g_i
    is the opponent's standardised length, so that a prompt on which the opponent writes more is harder, and z_i is
    normal. Lengths are in tokens and log-normal; an arm's goes half with the opponent's. The true win rate at equal
    length is the mean of the first and the last term's logistic.

    Attributes:
        qualities: one per arm, in log-odds.
        likings: the judge's liking for length, one per arm.
        lengths: the arms' median lengths; the opponent's is 30.
        ties: share of verdicts that are ties, whatever is true.
    """

    qualities: tuple[float, ...] = (0.0,)
    likings: tuple[float, ...] = (1.5,)
    lengths: tuple[float, ...] = (36.0,)
    difficulty: float = 0.0
    ties: float = 0.0
    is_linear: bool = False

    def judged(self, n: int, rng: np.random.Generator) -> dict[int, dict[str, Sized]]:
        """Arm -> prompt -> verdict and lengths."""
        common, z = rng.normal(size=n), rng.normal(size=n)
        opponent = np.round(30 * np.exp(0.3 * common)) + 1
        lengths = [np.round(median * np.exp(0.15 * common + 0.26 * rng.normal(size=n))) + 1 for median in self.lengths]
        sd = np.sqrt(np.mean([np.var(length - opponent) for length in lengths]))
        arms = {}
        for arm, (quality, liking, length) in enumerate(zip(self.qualities, self.likings, lengths, strict=True)):
            d = (length - opponent) / sd
            logits = quality + liking * (d if self.is_linear else np.tanh(d)) + self.difficulty * (z - common) / 2**0.5
            points = np.where(rng.random(n) < self.ties, 0.5, rng.random(n) < expit(logits))
            rows = zip(points.tolist(), length.tolist(), opponent.tolist(), strict=True)
            arms[arm] = {str(i): Sized(*row) for i, row in enumerate(rows)}
        return arms

    @property
    def truths(self) -> list[float]:
        """Win rates at equal length, one per arm."""
        z = np.linspace(-6, 6, 2001)
        weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
        return [
            (1 - self.ties) * float(weights @ expit(quality + self.difficulty * z)) + self.ties / 2
            for quality in self.qualities
        ]


def length_coverage(
    world: LengthWorld, n: int, repetitions: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Over all arms: shares of the intervals that hold the true win rate at equal length, length-controlled and raw
    (raw win rate +- 1.96 standard errors), and share of the length-controlled ones that were refused."""
    held, raw, refused = [], [], 0
    for _ in range(repetitions):
        arms = world.judged(n, rng)
        for truth, rows, found in zip(
            world.truths, arms.values(), length_controlled_win_rates(arms, one_opponent=True).values(), strict=True
        ):
            if found["ci95"] is None:
                refused += 1
                continue
            points = [row.points for row in rows.values()]
            held.append(found["ci95"][0] <= truth <= found["ci95"][1])
            raw.append(abs(float(np.mean(points)) - truth) <= 1.96 * float(np.std(points)) / n**0.5)
    total = repetitions * len(world.qualities)
    return float(np.mean(held)), float(np.mean(raw)), refused / total
