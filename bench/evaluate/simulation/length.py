"""Win rates at equal length, of arms that differ in length."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bench.evaluate.length_control import length_controlled_win_rate
from bench.evaluate.simulation.row import AT_MOST, COVERAGE, Rng, Row, Study, holds, share_of
from bench.evaluate.statistics import estimate, proportion_interval


@dataclass(frozen=True)
class LengthWorld:
    """Arms that differ in length, and a judge that likes length: logit P(win) = quality + liking * f(d).

    d is normal with this mean and sd, in tokens; f is tanh(d / sd), as the model of the evaluator has it, or d / sd
    itself, which it has not. The true win rate at equal length is logistic(quality).
    """

    quality: float
    liking: float = 1.0
    mean: float = 6.0
    sd: float = 8.0
    is_linear: bool = False

    def judged(self, n: int, rng: Rng) -> tuple[list[float], list[float]]:
        """Points and length differences of n prompts."""
        d = np.round(rng.normal(self.mean, self.sd, n))
        scaled = d / d.std()
        won = rng.random(n) < expit(self.quality + self.liking * (scaled if self.is_linear else np.tanh(scaled)))
        return won.astype(float).tolist(), d.tolist()


def length_control_coverage(world: LengthWorld, n: int, repetitions: int, rng: Rng) -> tuple[float, float]:
    """Shares of the intervals that hold the true win rate at equal length: length-controlled, and raw."""
    truth, controlled, raw = float(expit(world.quality)), [], []
    for _ in range(repetitions):
        points, differences = world.judged(n, rng)
        controlled.append(holds(length_controlled_win_rate(points, differences)["ci95"], truth))
        raw.append(holds(estimate(proportion_interval(points, seed=0))["ci95"], truth))
    return share_of(controlled), share_of(raw)


def _study(name: str, world: LengthWorld) -> Study:
    def measure(repetitions: int, rng: Rng) -> list[Row]:
        controlled, raw = length_control_coverage(world, 256, repetitions, rng)
        rows = [Row("length-controlled win rate covers", f"n 256, {name}", controlled, COVERAGE, repetitions)]
        if world.quality == 0:  # equally good: the raw interval should be misled
            limit = "it should be misled"
            rows.append(Row("raw win rate covers", f"n 256, {name}", raw, AT_MOST, repetitions, limit))
        return rows

    return Study(f"length, {name}", measure)


WORLDS = {
    "arms differ in length alone": LengthWorld(quality=0.0, liking=1.5),
    "length alone, judge linear in length": LengthWorld(quality=0.0, liking=0.9, is_linear=True),
    "a better arm, and longer": LengthWorld(quality=1.0),
    "a better arm, and shorter": LengthWorld(quality=1.0, mean=-6.0),
}
STUDIES = [_study(name, world) for name, world in WORLDS.items()]
