"""Two arms at equal KL to the SFT model, or equal time: each one's frontier, interpolated, and their difference.

A frontier is an arm's policies at several settings. An arm at KL 1 and one at KL 7 are not compared by their win rates;
at a KL that both reach they are. So with the time that the arms took.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bench.evaluate.statistics import ALPHA, RESAMPLES

STEPS = 5
"""At so many places, evenly in the root over what both arms reach, the difference is told."""


@dataclass(frozen=True)
class Policy:
    """One policy on the prompts of its seed.

    Attributes:
        spent: by prompt what the arms are held equal in: KL in nats per completion, or the policy's time, the same for
            every prompt.
        points: by prompt 1, 0.5 or 0.
    """

    spent: Mapping[str, float]
    points: Mapping[str, float]


Frontiers = Mapping[int, tuple[Sequence[Policy], Sequence[Policy]]]
"""seed -> the two arms' policies."""


def matched(
    frontiers: Frontiers, seed: int = 0, resamples: int = RESAMPLES, shared: bool = False, unit: str = "KL, nats"
) -> dict[str, Any]:
    """The first arm's win rate less the second's where both have spent the same.

    Each seed's frontier is interpolated linearly in the root of what was spent, so monotonously between neighbours, and
    never beyond its ends. What is compared is the range that both arms reach in every seed; its ends come from the
    means. The interval of one seed is a bootstrap over prompts, which moves KLs and win rates together. Over
    seeds it is Student's t over the seeds' differences; where seeds share their prompts (`shared`), whose luck does not
    average out, the bootstrap's variance is added. Two seeds have the wider of their intervals.

    Returns:
        "range": [low, high] of what was spent, None where there is none; "value": the difference averaged over the
        range, -1 to 1, with "ci95"; "at": rows {"spent", "first", "second", "difference"}, estimates with the same
        interval; "n": prompts of a seed at least; "seeds"; "reason": None, or why there is no comparison.
    """
    empty = {"range": None, "value": None, "ci95": None, "at": [], "n": 0, "seeds": len(frontiers)}
    short = [s for s, arms in frontiers.items() if min(len(arm) for arm in arms) < 2]
    if not frontiers or short:
        return empty | {"reason": "each arm needs policies at two settings or more in every seed"}
    tables = {s: tuple(_Table.of(arm) for arm in arms) for s, arms in frontiers.items()}
    low = max(table.roots().min() for arms in tables.values() for table in arms)
    high = min(table.roots().max() for arms in tables.values() for table in arms)
    n = min(table.points.shape[1] for arms in tables.values() for table in arms)
    if not low < high:
        return empty | {"n": n, "reason": _apart(tables, unit)}
    grid = np.linspace(low, high, STEPS)
    found = {s: np.stack([table.at(grid) for table in arms]) for s, arms in tables.items()}
    draws = {s: _resampled(arms, grid, np.random.default_rng([seed, s]), resamples) for s, arms in tables.items()}
    centre = np.mean([*found.values()], axis=0)  # (arm, step)
    rows = []
    for step, root in enumerate(grid):
        firsts, seconds = ([of[arm, step] for of in found.values()] for arm in (0, 1))
        picked = {s: of[:, :, step] for s, of in draws.items()}
        rows.append(
            {
                "spent": float(root**2),
                "first": _estimate(firsts, [of[:, 0] for of in picked.values()], shared),
                "second": _estimate(seconds, [of[:, 1] for of in picked.values()], shared),
                "difference": _estimate(
                    [a - b for a, b in zip(firsts, seconds, strict=True)],
                    [of[:, 0] - of[:, 1] for of in picked.values()],
                    shared,
                ),
            }
        )
    over_range = [of.mean(1) for of in found.values()]
    mean = _estimate(
        [of[0] - of[1] for of in over_range], [(of[:, 0] - of[:, 1]).mean(1) for of in draws.values()], shared
    )
    assert np.isclose(mean["value"], (centre[0] - centre[1]).mean())
    span = [float(low**2), float(high**2)]
    return {"range": span, **mean, "at": rows, "n": n, "seeds": len(frontiers), "reason": None}


@dataclass(frozen=True)
class _Table:
    """An arm's policies by the prompts that all of them have: (policy, prompt)."""

    spent: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, policies: Sequence[Policy]) -> "_Table":
        shared = sorted(set.intersection(*({*policy.spent} & {*policy.points} for policy in policies)))
        return cls(
            np.array([[policy.spent[p] for p in shared] for policy in policies]),
            np.array([[policy.points[p] for p in shared] for policy in policies]),
        )

    def roots(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Of what was spent on average, on some of the prompts."""
        return np.sqrt(np.maximum(self.spent[:, rows].mean(1), 0.0))

    def at(self, grid: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Win rates at these roots; beyond a resample's own ends, its last policy's."""
        roots = self.roots(rows)
        order = np.argsort(roots)
        return np.interp(grid, roots[order], self.points[:, rows].mean(1)[order])


def _resampled(arms: tuple["_Table", ...], grid: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """(resample, arm, step): both arms on the same resampled prompts."""
    n = min(table.points.shape[1] for table in arms)
    drawn = (rng.integers(0, n, n) for _ in range(resamples))
    return np.array([[table.at(grid, rows) for table in arms] for rows in drawn])


def _estimate(values: Sequence[float], draws: Sequence[np.ndarray], shared: bool) -> dict[str, Any]:
    mean = float(np.mean(values))
    if len(values) < 3:
        ends = [np.quantile(of, [ALPHA / 2, 1 - ALPHA / 2]) for of in draws]
        return {"value": mean, "ci95": [float(min(e[0] for e in ends)), float(max(e[1] for e in ends))]}
    n = len(values)
    variance = float(np.var(values, ddof=1)) / n
    if shared:
        variance += float(np.var(np.mean(draws, axis=0)))
    half = float(stats.t.isf(ALPHA / 2, n - 1)) * variance**0.5
    return {"value": mean, "ci95": [mean - half, mean + half]}


def _apart(tables: Mapping[int, tuple["_Table", ...]], unit: str) -> str:
    ends = [
        [(float(table.roots().min() ** 2), float(table.roots().max() ** 2)) for table in arms]
        for arms in tables.values()
    ]
    first, second = (f"{min(of[arm][0] for of in ends):.2g} to {max(of[arm][1] for of in ends):.2g}" for arm in (0, 1))
    return f"nothing is reached by both arms in every seed ({unit}: {first} and {second})"
