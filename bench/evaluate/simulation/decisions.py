"""Decisions where there is nothing to decide, and the power of those where there is."""

from functools import cache
from itertools import combinations

import numpy as np
from scipy import stats
from scipy.special import betainc

from bench.evaluate.decisions import NOT_DECIDED, SUPPORTED, decide
from bench.evaluate.power import prompts_needed
from bench.evaluate.simulation.row import AT_MOST, POWERED, Rng, Row, Study, share_of
from bench.evaluate.simulation.shares import COUNTED
from bench.evaluate.statistics import ALPHA, Counts, holm, score_interval, share_test


@cache
def found(wins: int, losses: int, n: int, share: float = 0.5) -> tuple[dict, float]:
    """A win rate as metrics.json has it, and the p-value of its exact test."""
    low, high = score_interval(wins, losses, n)
    rate = {"value": 0.5 + (wins - losses) / (2 * n), "ci95": [float(low), float(high)], "n": n}
    return rate, share_test(Counts(wins, losses, n), share)


def false_pairs(arms: int, n: int, ties: float, repetitions: int, rng: Rng) -> tuple[float, float]:
    """Shares of runs in which some pair of arms that are all equal is decided: as it is, and by intervals alone.

    The prompts' luck is the same for all pairs, as far as a coin is: half of the verdicts follow it.
    """
    decided, by_interval = [], []
    pairs = len(list(combinations(range(arms), 2)))
    for _ in range(repetitions):
        luck = np.where(rng.random((pairs, n)) < 0.5, rng.random(n), rng.random((pairs, n)))
        wins, losses = (luck < (1 - ties) / 2).sum(1), (luck > (1 + ties) / 2).sum(1)
        of_pairs = [found(int(w), int(b), n) for w, b in zip(wins, losses, strict=True)]
        adjusted = holm({str(i): p for i, (_, p) in enumerate(of_pairs)})
        verdicts = [decide(rate, 0.5, adjusted[str(i)]) for i, (rate, _) in enumerate(of_pairs)]
        decided.append(any(verdict != NOT_DECIDED for verdict in verdicts))
        by_interval.append(any(rate["ci95"][0] > 0.5 or rate["ci95"][1] < 0.5 for rate, _ in of_pairs))
    return share_of(decided), share_of(by_interval)


def false_single(n: int, share: float, ties: float, repetitions: int, rng: Rng) -> float:
    """Share of runs in which a win rate of exactly `share` is decided to be above or below it."""
    win = share - ties / 2
    outcomes = rng.multinomial(n, [win, 1 - win - ties, ties], repetitions)
    kinds, times = np.unique(outcomes[:, :2], axis=0, return_counts=True)
    verdicts = [decide(*_at(found(int(w), int(b), n, share), share)) != NOT_DECIDED for w, b in kinds]
    return float(np.average(verdicts, weights=times))


def _at(rate_and_p: tuple[dict, float], threshold: float) -> tuple[dict, float, float]:
    rate, p = rate_and_p
    return rate, threshold, p


def power_head_to_head(rate: float, ties: float, repetitions: int, rng: Rng) -> float:
    """Share of comparisons that are decided, on as many prompts as 80 % power is said to need."""
    gap, win = 2 * rate - 1, rate - ties / 2
    n = prompts_needed(gap, discordant=1 - ties)
    outcomes = rng.multinomial(n, [win, 1 - win - ties, ties], repetitions)
    return share_of([decide(*_at(found(int(w), int(b), n), 0.5)) == SUPPORTED for w, b, _ in outcomes])


def power_paired(only_a: float, only_b: float, repetitions: int, rng: Rng) -> float:
    """Share of exact McNemar tests below 0.05; the arguments are the true shares of discordant prompts."""
    n = prompts_needed(only_a - only_b, discordant=only_a + only_b)
    a, b, _ = rng.multinomial(n, [only_a, only_b, 1 - only_a - only_b], repetitions).T
    more, fewer = np.maximum(a, b), np.minimum(a, b)
    return share_of(2 * betainc(more, fewer + 1, 0.5) < ALPHA)  # P(`more` or more of a fair coin), twice


def power_unpaired(base: float, rate: float, repetitions: int, rng: Rng) -> float:
    """Share of pooled two-sample z tests below 0.05 of two arms, each on prompts of its own."""
    n = prompts_needed(rate - base, base=base)
    a, b = rng.binomial(n, [[rate], [base]], (2, repetitions)) / n
    pooled = (a + b) / 2
    z = (a - b) / np.sqrt(2 * pooled * (1 - pooled) / n)
    return share_of(np.abs(z) > stats.norm.isf(ALPHA / 2))


def _pairs(repetitions: int, rng: Rng) -> list[Row]:
    rows = []
    for arms in (4, 7):
        for n in (4, 48, 256):
            decided, by_interval = false_pairs(arms, n, 0.1 if n > 4 else 0.0, repetitions, rng)
            world = f"{arms} equal arms, n {n}"
            limit = f"by intervals alone {by_interval:.1%}"
            rows.append(Row("some pair decided falsely", world, decided, AT_MOST, repetitions, limit))
    return rows


def _single(repetitions: int, rng: Rng) -> list[Row]:
    rows = []
    for n in (4, 8, 48, 256):
        for share, ties in ((0.5, 0.1), (0.45, 0.1), (0.45, 0.5)):
            decided = false_single(n, share, ties, COUNTED * repetitions, rng)
            world = f"n {n}, true {share:.0%} held against it, ties {ties:.0%}"
            rows.append(Row("claim 4 decided falsely", world, decided, AT_MOST, COUNTED * repetitions))
    return rows


def _power(repetitions: int, rng: Rng) -> list[Row]:
    many = COUNTED * repetitions
    rows = [
        Row(
            "power head to head",
            f"true {r:.0%}, ties {t:.0%}",
            power_head_to_head(r, t, repetitions, rng),
            POWERED,
            repetitions,
        )
        for r, t in ((0.6, 0.0), (0.57, 0.4))
    ]
    for a, b in ((0.25, 0.15), (0.18, 0.13)):
        world = f"a alone {a:.0%}, b alone {b:.0%}"
        rows.append(Row("power paired", world, power_paired(a, b, many, rng), POWERED, many))
    share = power_unpaired(146 / 256, 158 / 256, many, rng)
    return [*rows, Row("power unpaired", "146/256 against 158/256", share, POWERED, many)]


STUDIES = [Study("equal arms", _pairs), Study("one question", _single), Study("power", _power)]
