"""Win rates corrected for a judge's errors, of a judge whose errors are known."""

from dataclasses import dataclass

import numpy as np

from bench.evaluate.judge_error import Labelled, corrected_win_rate
from bench.evaluate.simulation.row import Rng, Row, Study, holds
from bench.evaluate.statistics import ALPHA

COVERAGE = (1 - ALPHA - 0.015, 1 - ALPHA + 0.015)
PROMPTS, LABELS = 256, 600


@dataclass(frozen=True)
class ErringJudge:
    """A judge that finds the better summary by chance, better or worse where the longer one is better.

    Attributes:
        sensitivity, specificity: how often it is right where the longer, and where the shorter summary is better.
        win_rate: how often the arm's summary is the better one, ties half.
        longer: how often it is the longer one; whether it is better does not depend on that.
        ties: share of pairs, labelled ones too, of which neither is better: the judge says there what `sensitivity`
            and `specificity` say on average of the other pairs.
        undecided: share of the judge's verdicts, right or wrong, that it gives as a tie.
    """

    sensitivity: float
    specificity: float
    win_rate: float = 0.7
    longer: float = 0.7
    ties: float = 0.0
    undecided: float = 0.0

    def verdicts(self, truth: np.ndarray, rng: Rng) -> np.ndarray:
        """1 for the longer summary, -1 for the shorter one, 0 for a tie; `truth` likewise."""
        neither = (1 + self.sensitivity - self.specificity) / 2
        says_longer = np.choose(truth + 1, [1 - self.specificity, neither, self.sensitivity])
        said = np.where(rng.random(truth.size) < says_longer, 1, -1)
        return np.where(rng.random(truth.size) < self.undecided, 0, said)

    def labelled(self, n: int, rng: Rng) -> list[Labelled]:
        """n pairs with one label each, of other arms: in 60 % of those that are decided the longer one is better."""
        decided = np.where(rng.random(n) < 0.6, 1, -1)
        truth = np.where(rng.random(n) < self.ties, 0, decided)
        said = self.verdicts(truth, rng)
        return [Labelled(str(i), float(truth[i]), float(said[i]), 1.0) for i in range(n)]

    def judged(self, n: int, rng: Rng) -> tuple[list[float], list[tuple[int, int]]]:
        """Points of n prompts, and the lengths of the arm's and its opponent's summaries."""
        won = (self.win_rate - self.ties / 2) / (1 - self.ties)
        truth = np.where(rng.random(n) < self.ties, 0, np.where(rng.random(n) < won, 1, -1))
        side = np.where(rng.random(n) < self.longer, 1, -1)
        said = side * self.verdicts(side * truth, rng)
        return ((1 + said) / 2).tolist(), [(2 + s, 2 - s) for s in side.tolist()]


def corrected_coverage(judge: ErringJudge, n: int, labels: int, repetitions: int, rng: Rng) -> tuple[float, float]:
    """Share of the corrected intervals that hold the true win rate, and share of the repetitions that were refused."""
    ends = [corrected_win_rate(*judge.judged(n, rng), judge.labelled(labels, rng))["ci95"] for _ in range(repetitions)]
    answered = [holds(one, judge.win_rate) for one in ends if one is not None]
    return sum(answered) / max(len(answered), 1), 1 - len(answered) / repetitions


def _study(name: str, judge: ErringJudge) -> Study:
    def measure(repetitions: int, rng: Rng) -> list[Row]:
        where = f"n {PROMPTS}, {LABELS} labels, {name}"
        if judge.sensitivity + judge.specificity == 1:
            _, refused = corrected_coverage(judge, PROMPTS, LABELS, repetitions, rng)
            return [Row("corrected win rate is refused", where, refused, (1 - ALPHA, 1.0), repetitions)]
        covered, _ = corrected_coverage(judge, PROMPTS, LABELS, repetitions, rng)
        return [Row("corrected win rate covers", where, covered, COVERAGE, repetitions)]

    return Study(f"judge error, {name}", measure)


WORLDS = {
    **{f"accuracy {share:.0%}": ErringJudge(share, share) for share in (0.5, 0.6, 0.75, 0.9)},
    "accuracy 75%, an arm that loses": ErringJudge(0.75, 0.75, win_rate=0.1),
    "accuracy 75%, ties": ErringJudge(0.75, 0.75, ties=0.15, undecided=0.15),
    "leans to the longer, 90% and 60%": ErringJudge(0.9, 0.6, longer=0.9),
}
STUDIES = [_study(name, judge) for name, judge in WORLDS.items()]
