"""Win rates at equal length, of arms that differ in length."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bench.evaluate.length_control import Sized, length_controlled_win_rates
from bench.evaluate.simulation.row import AT_MOST, COVERAGE, Rng, Row, Study, holds, share_of
from bench.evaluate.statistics import estimate, proportion_interval

OPPONENT = 30


@dataclass(frozen=True)
class LengthWorld:
    """Arms that differ in length from one opponent, and a judge that likes length.

    logit P(arm m wins on prompt i) = quality_m + liking_m f(d_mi) + difficulty (z_i - g_i) / sqrt(2), where d is the
    length difference and f is tanh(d / sd), as the model of the evaluator has it, or d / sd itself, which it has not;
    g_i is the opponent's standardised log-length, so that it is hard to beat where it writes much, and z_i is normal.
    An arm's length goes half with its opponent's. The true win rate at equal length is that without f.

    Attributes:
        qualities, likings: one per arm, in log-odds.
        lengths: the arms' median lengths in tokens; the opponent's is 30.
        ties: share of verdicts that are ties, whatever is true.
    """

    qualities: tuple[float, ...] = (0.0,)
    likings: tuple[float, ...] = (1.0,)
    lengths: tuple[float, ...] = (36.0,)
    difficulty: float = 0.0
    ties: float = 0.0
    is_linear: bool = False

    def judged(self, n: int, rng: Rng) -> dict[int, dict[str, Sized]]:
        """Arm -> prompt -> verdict and lengths."""
        g, z = rng.normal(size=(2, n))
        opponent = np.round(OPPONENT * np.exp(0.3 * g)) + 1
        own = rng.normal(size=(len(self.lengths), n))
        lengths = np.round(np.array(self.lengths)[:, None] * np.exp(0.15 * g + 0.26 * own)) + 1
        scaled = (lengths - opponent) / np.sqrt(np.var(lengths - opponent, axis=1).mean())
        f = scaled if self.is_linear else np.tanh(scaled)
        logits = np.array(self.qualities)[:, None] + np.array(self.likings)[:, None] * f
        won = rng.random(f.shape) < expit(logits + self.difficulty * (z - g) / 2**0.5)
        points = np.where(rng.random(f.shape) < self.ties, 0.5, won)
        return {
            arm: {str(i): Sized(*row) for i, row in enumerate(zip(y.tolist(), own.tolist(), opponent, strict=True))}
            for arm, (y, own) in enumerate(zip(points, lengths, strict=True))
        }

    @property
    def truths(self) -> list[float]:
        """Win rates at equal length, one per arm: (z - g) / sqrt(2) is standard normal."""
        normal = np.linspace(-6, 6, 2001)
        weights = np.exp(-(normal**2) / 2) / np.exp(-(normal**2) / 2).sum()
        return [
            (1 - self.ties) * float(weights @ expit(quality + self.difficulty * normal)) + self.ties / 2
            for quality in self.qualities
        ]


def length_control_coverage(world: LengthWorld, n: int, repetitions: int, rng: Rng) -> tuple[float, float]:
    """Shares of all arms' intervals that hold the true win rate at equal length: length-controlled, and raw."""
    controlled, raw = [], []
    for _ in range(repetitions):
        arms = world.judged(n, rng)
        found = length_controlled_win_rates(arms, one_opponent=True)
        for arm, truth in enumerate(world.truths):
            controlled.append(holds(found[arm]["ci95"], truth))
            points = [row.points for row in arms[arm].values()]
            raw.append(holds(estimate(proportion_interval(points, seed=0))["ci95"], truth))
    return share_of(controlled), share_of(raw)


def _study(name: str, world: LengthWorld, n: int) -> Study:
    def measure(repetitions: int, rng: Rng) -> list[Row]:
        where = f"n {n}, {name}"
        controlled, raw = length_control_coverage(world, n, repetitions, rng)
        rows = [Row("length-controlled win rate covers", where, controlled, COVERAGE, repetitions)]
        if max(map(abs, world.qualities)) == world.difficulty == 0:  # length alone: the raw interval should be misled
            rows.append(Row("raw win rate covers", where, raw, AT_MOST, repetitions, "it should be misled"))
        return rows

    return Study(f"length, {name}, n {n}", measure)


_FOUR = (-2.0, -0.5, 0.5, 1.0), (1.0,) * 4, (50.0, 30.0, 40.0, 36.0)
WORLDS = {
    "arms differ in length alone": LengthWorld(likings=(1.5,)),
    "length alone, judge linear in length": LengthWorld(likings=(0.9,), is_linear=True),
    "a better arm, and longer": LengthWorld(qualities=(1.0,)),
    "a better arm, and shorter": LengthWorld(qualities=(1.0,), lengths=(24.0,)),
    "one arm, prompts differ in difficulty": LengthWorld(difficulty=1.0),
    "two arms, difficulty": LengthWorld((0.0, 0.5), (1.0, 1.0), (36.0, 45.0), difficulty=1.0),
    "four arms": LengthWorld(*_FOUR),
    "four arms, difficulty": LengthWorld(*_FOUR, difficulty=1.0),
    "four arms, difficulty, ties, likings differ": LengthWorld(
        _FOUR[0], (0.6, 0.8, 1.2, 1.4), _FOUR[2], difficulty=1.0, ties=0.15
    ),
    "four short arms, difficulty": LengthWorld(_FOUR[0], _FOUR[1], (18.0, 20.0, 25.0, 36.0), difficulty=1.0),
}
STUDIES = [_study(name, world, n) for n in (256, 48) for name, world in WORLDS.items() if n > 48 or "four" in name]
