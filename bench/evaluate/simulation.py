"""Do the intervals cover, and is the power what was promised? Simulated worlds whose true win rates are known.

    python -m bench.evaluate.simulation --repetitions 1000 --out simulation.json

prints one row per world: the share of repetitions that came out as promised, beside the promise. A row is `ok`
where the share agrees with its promise (95 % +- 1.5 for coverage, 80 % +- 2.5 for power, at most 5 % for the raw win
rate of arms that differ in length alone) as far as so many repetitions can tell, which is to say that its own 99 %
interval reaches into that range.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import expit

from bench.evaluate.bradley_terry import bradley_terry
from bench.evaluate.length_control import length_controlled_win_rate
from bench.evaluate.power import POWER, prompts_needed
from bench.evaluate.statistics import ALPHA, Interval, bootstrap_mean, mcnemar_test, proportion_interval, score_interval
from bench.files import write_json

COVERAGE = (1 - ALPHA - 0.015, 1 - ALPHA + 0.015)
POWERED = (POWER - 0.025, POWER + 0.025)
Rng = np.random.Generator


@dataclass(frozen=True)
class Row:
    """How often a world came out as promised: `share` of `repetitions`, which should lie in `promised`."""

    what: str
    world: str
    share: float
    promised: tuple[float, float]
    repetitions: int

    @property
    def ok(self) -> bool:
        found = stats.binomtest(round(self.share * self.repetitions), self.repetitions).proportion_ci(0.99)
        return bool(found.low <= self.promised[1] and found.high >= self.promised[0])


def win_rate_coverage(n: int, rate: float, ties: float, repetitions: int, rng: Rng) -> float:
    """Share of win-rate intervals over n prompts that hold the true `rate`, a share `ties` of the verdicts ties."""
    win = rate - ties / 2
    wins, losses, _ = rng.multinomial(n, [win, 1 - win - ties, ties], repetitions).T
    low, high = score_interval(wins, losses, n)
    return float(((low <= rate + 1e-12) & (rate - 1e-12 <= high)).mean())


def mean_coverage(draw: Callable[[Rng, int], np.ndarray], mean: float, n: int, repetitions: int, rng: Rng) -> float:
    """Share of bootstrap intervals of n values that hold the true mean of what `draw(rng, n)` draws from."""
    return _share(_holds(bootstrap_mean(draw(rng, n).tolist(), seed), mean) for seed in range(repetitions))


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
        ends = length_controlled_win_rate(points, differences)["ci95"]
        controlled.append(ends is not None and ends[0] <= truth <= ends[1])
        raw.append(_holds(proportion_interval(points, seed=0), truth))
    return _share(controlled), _share(raw)


def strength_coverage(
    strengths: dict[str, float], n: int, repetitions: int, rng: Rng, resamples: int = 300
) -> dict[str, float]:
    """arm -> share of Bradley-Terry intervals that hold its true strength; "reference" is in `strengths`, at 0.

    One draw per prompt settles all its duels, so that they depend on one another as the duels on one hard post do.
    """
    arms = sorted(strengths)
    hits = dict.fromkeys(arms, 0)
    prompts = [f"p{i}" for i in range(n)]
    for seed in range(repetitions):
        luck = rng.random(n)
        points = {
            (a, b): dict(zip(prompts, (luck < expit(strengths[a] - strengths[b])).astype(float).tolist(), strict=True))
            for a, b in combinations(arms, 2)
        }
        found = bradley_terry(points, "reference", seed, resamples)
        for arm in arms:
            low, high = found[arm]["ci95"]
            hits[arm] += low <= strengths[arm] <= high
    return {arm: hits[arm] / repetitions for arm in arms if arm != "reference"}


def power_head_to_head(rate: float, ties: float, repetitions: int, rng: Rng) -> float:
    """Share of comparisons whose interval excludes 0.5, on as many prompts as 80 % power is said to need."""
    gap, win = 2 * rate - 1, rate - ties / 2
    n = prompts_needed(gap, discordant=1 - ties)
    wins, losses, _ = rng.multinomial(n, [win, 1 - win - ties, ties], repetitions).T
    low, high = score_interval(wins, losses, n)
    return float(((low > 0.5) | (high < 0.5)).mean())


def power_paired(only_a: float, only_b: float, repetitions: int, rng: Rng) -> float:
    """Share of exact McNemar tests below 0.05; the arguments are the true shares of discordant prompts."""
    n = prompts_needed(only_a - only_b, discordant=only_a + only_b)
    cells = rng.multinomial(n, [only_a, only_b, 1 - only_a - only_b], repetitions)
    return _share(mcnemar_test(int(a), int(b)) < ALPHA for a, b, _ in cells)


def power_unpaired(base: float, rate: float, repetitions: int, rng: Rng) -> float:
    """Share of pooled two-sample z tests below 0.05 of two arms, each on prompts of its own."""
    n = prompts_needed(rate - base, base=base)
    a, b = rng.binomial(n, [[rate], [base]], (2, repetitions)) / n
    pooled = (a + b) / 2
    z = (a - b) / np.sqrt(2 * pooled * (1 - pooled) / n)
    return float((np.abs(z) > stats.norm.isf(ALPHA / 2)).mean())


def rows(repetitions: int, seed: int) -> Iterator[Row]:
    """Every world of the report."""
    rng = np.random.default_rng(seed)

    def covers(what: str, world: str, share: float) -> Row:
        return Row(what, world, share, COVERAGE, repetitions)

    for n in (64, 128, 256):
        for rate in (0.5, 0.7, 0.9):
            for ties in (0.0, 0.15):
                share = win_rate_coverage(n, rate, ties, repetitions, rng)
                yield covers("win rate covers", f"n {n}, true {rate:.0%}, ties {ties:.0%}", share)
    for name, draw, mean in MEANS:
        yield covers("mean covers", f"n 256, {name}", mean_coverage(draw, mean, 256, repetitions, rng))
    for name, world in LENGTH_WORLDS.items():
        controlled, raw = length_control_coverage(world, 256, repetitions, rng)
        yield covers("length-controlled win rate covers", f"n 256, {name}", controlled)
        if world.quality == 0:  # equally good: the raw interval should be misled
            yield Row("raw win rate covers", f"n 256, {name}", raw, (0.0, 0.05), repetitions)
    for arm, share in strength_coverage(STRENGTHS, 256, repetitions, rng).items():
        yield covers("Bradley-Terry strength covers", f"n 256, {arm} at {STRENGTHS[arm]:+.1f}", share)
    for rate, ties in ((0.6, 0.0), (0.57, 0.4)):
        share = power_head_to_head(rate, ties, repetitions, rng)
        yield Row("power head to head", f"true {rate:.0%}, ties {ties:.0%}", share, POWERED, repetitions)
    for only_a, only_b in ((0.25, 0.15), (0.18, 0.13)):
        share = power_paired(only_a, only_b, repetitions, rng)
        yield Row("power paired", f"a alone {only_a:.0%}, b alone {only_b:.0%}", share, POWERED, repetitions)
    share = power_unpaired(146 / 256, 158 / 256, repetitions, rng)
    yield Row("power unpaired", "146/256 against 158/256", share, POWERED, repetitions)


MEANS: tuple[tuple[str, Callable[[Rng, int], np.ndarray], float], ...] = (
    ("F1 scores", lambda rng, n: rng.beta(2, 6, n), 0.25),
    ("KL in nats, skewed", lambda rng, n: rng.gamma(1.5, 2.0, n), 3.0),
    ("paired wins, -1 to 1", lambda rng, n: rng.choice([-1.0, -0.5, 0, 0.5, 1], n, p=[0.1, 0.05, 0.6, 0.05, 0.2]), 0.1),
)
LENGTH_WORLDS = {
    "arms differ in length alone": LengthWorld(quality=0.0, liking=1.5),
    "length alone, judge linear in length": LengthWorld(quality=0.0, liking=0.9, is_linear=True),
    "a better arm, and longer": LengthWorld(quality=1.0),
    "a better arm, and shorter": LengthWorld(quality=1.0, mean=-6.0),
}
STRENGTHS = {"base": -2.5, "sft": 0.0, "ppo": 0.8, "dpo": 1.1, "reference": 0.0}


def main(argv: list[str] | None = None) -> int:
    """Print the rows, write them where --out says, and return 0 if all are as promised."""
    parser = argparse.ArgumentParser(prog="python -m bench.evaluate.simulation", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000, help="repetitions of each world (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the rows here as JSON")
    options = parser.parse_args(argv)
    found = []
    for row in rows(options.repetitions, options.seed):
        found.append(row)
        low, high = row.promised
        promise = f"{low:.1%} to {high:.1%}"
        print(f"{row.what:34} {row.world:46} {row.share:7.1%}  {promise:16} {'ok' if row.ok else 'NOT AS PROMISED'}")
        sys.stdout.flush()
    if options.out is not None:
        write_json(options.out, {"seed": options.seed, "rows": [asdict(row) | {"ok": row.ok} for row in found]})
    return 0 if all(row.ok for row in found) else 1


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _share(outcomes: Iterator[bool] | list[bool]) -> float:
    return float(np.mean(list(outcomes)))


if __name__ == "__main__":
    sys.exit(main())
