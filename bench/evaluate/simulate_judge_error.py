"""A world in which a judge's errors are known: do corrected win rates cover the true one?"""

from dataclasses import dataclass

import numpy as np

from bench.evaluate.judge_error import Labelled, corrected_win_rate


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

    def verdicts(self, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """1 for the longer summary, -1 for the shorter one, 0 for a tie; `truth` likewise."""
        neither = (1 + self.sensitivity - self.specificity) / 2
        says_longer = np.choose(truth + 1, [1 - self.specificity, neither, self.sensitivity])
        said = np.where(rng.random(truth.size) < says_longer, 1, -1)
        return np.where(rng.random(truth.size) < self.undecided, 0, said)

    def labelled(self, n: int, rng: np.random.Generator) -> list[Labelled]:
        """n pairs with one label each, of other arms: in 60 % of those that are decided the longer one is better."""
        decided = np.where(rng.random(n) < 0.6, 1, -1)
        truth = np.where(rng.random(n) < self.ties, 0, decided)
        said = self.verdicts(truth, rng)
        return [Labelled(str(i), float(truth[i]), float(said[i]), 1.0) for i in range(n)]

    def judged(self, n: int, rng: np.random.Generator) -> tuple[list[float], list[tuple[int, int]]]:
        """Points of n prompts, and the lengths of the arm's and its opponent's summaries."""
        won = (self.win_rate - self.ties / 2) / (1 - self.ties)
        truth = np.where(rng.random(n) < self.ties, 0, np.where(rng.random(n) < won, 1, -1))
        side = np.where(rng.random(n) < self.longer, 1, -1)
        said = side * self.verdicts(side * truth, rng)
        return ((1 + said) / 2).tolist(), [(2 + s, 2 - s) for s in side.tolist()]


def corrected_coverage(
    judge: ErringJudge, n: int, labels: int, repetitions: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Share of the corrected intervals that hold the true win rate, and share of the repetitions that were refused."""
    held, refused = 0, 0
    for _ in range(repetitions):
        ends = corrected_win_rate(*judge.judged(n, rng), judge.labelled(labels, rng))["ci95"]
        if ends is None:
            refused += 1
        else:
            held += ends[0] <= judge.win_rate <= ends[1]
    return held / max(repetitions - refused, 1), refused / repetitions
