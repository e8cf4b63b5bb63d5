"""Which setting of a sweep is best, and which ones cannot be told apart from it. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.errors import DataError
from bench.evaluate.seeds import Points, mean_over_seeds
from bench.evaluate.statistics import ALPHA, estimate, paired_difference, sign_test

BEST, LEVEL, WORSE = "best", "not told apart", "worse"


@dataclass(frozen=True)
class Result:
    """What one setting reached in one seed: its win rate, an estimate, and by prompt, where the verdicts are there."""

    rate: Mapping[str, Any]
    points: Points | None = None


def beside_the_best(settings: Mapping[str, Mapping[int, Result]], shared_prompts: bool = False) -> dict[str, Any]:
    """Setting -> its win rate, and how far it is behind the best one, over the seeds that all settings have.

    The difference is paired: by prompt where the verdicts are there, and by seed. A setting is worse where it is behind
    at the level 0.05 over the number of other settings: by Student's t over seeds from three on, by the exact sign test
    over prompts of a single seed. So the setting that is truly best is called worse in at most 5 % of sweeps, though
    the best one is picked by the same numbers (Bonferroni over the settings that could be ahead of it).

    Returns:
        setting -> "rate" (`mean_over_seeds`, or one seed's estimate), "behind" (the same of the difference of best
        minus it, -1 to 1, with an ordinary 95 % interval; None for the best), "verdict": best, not told apart, worse.

    Raises:
        DataError: fewer than two settings, or no seed that all of them have.
    """
    seeds = sorted(set.intersection(*(set(of) for of in settings.values()))) if settings else []
    if len(settings) < 2 or not seeds:
        raise DataError("a sweep needs two settings or more that have a seed in common")
    rates = {
        name: _mean([of[s].rate for s in seeds], (0, 1), [of[s].points for s in seeds], shared_prompts)
        for name, of in settings.items()
    }
    best = max(rates, key=lambda name: rates[name]["value"])
    found: dict[str, Any] = {best: {"rate": rates[best], "behind": None, "verdict": BEST}}
    alpha = ALPHA / (len(settings) - 1)
    for name, of in settings.items():
        if name != best:
            pairs = [(settings[best][s], of[s]) for s in seeds]
            behind, is_worse = _behind(pairs, shared_prompts, alpha)
            found[name] = {"rate": rates[name], "behind": behind, "verdict": WORSE if is_worse else LEVEL}
    return {name: found[name] for name in settings}


def _behind(pairs: list[tuple[Result, Result]], shared: bool, alpha: float) -> tuple[dict[str, Any], bool]:
    """The difference over seeds, and whether it is above 0 at the level `alpha`."""
    by_prompt = [_differences(best.points, other.points) for best, other in pairs]
    estimates = []
    for (best, other), of_prompt in zip(pairs, by_prompt, strict=True):
        if of_prompt:
            values = list(of_prompt.values())
            difference = paired_difference(values, [0.0] * len(values), seed=0, bounds=(-1, 1))
            estimates.append(estimate(difference))
        else:
            value = best.rate["value"] - other.rate["value"]
            # Unpaired: the widths of both, as if they were independent.
            half = float(np.hypot(*((r.rate["ci95"][1] - r.rate["ci95"][0]) / 2 for r in (best, other))))
            estimates.append({"value": value, "ci95": [value - half, value + half], "n": best.rate["n"]})
    points = by_prompt if shared and all(by_prompt) else None
    if len(pairs) == 1:
        (of_prompt,) = by_prompt
        wins, losses = (sum(side * x > 0 for x in of_prompt.values()) for side in (1, -1))
        return _mean(estimates, (-1, 1), points, shared), wins > losses and sign_test(wins, losses) < alpha
    strict = mean_over_seeds(estimates, (-1, 1), points, shared, alpha)["ci95"]
    return _mean(estimates, (-1, 1), points, shared), strict is not None and strict[0] > 0


def _differences(best: Points | None, other: Points | None) -> dict[str, float]:
    """By the prompts of both; empty where one is not known."""
    return {p: best[p] - other[p] for p in best if p in other} if best and other else {}


def _mean(estimates: list[Any], bounds: tuple[float, float], points: list[Any] | None, shared: bool) -> dict[str, Any]:
    """One seed's estimate, or the mean of several, as `{"value", "ci95", "n", "seeds"}`."""
    if len(estimates) == 1:
        return {name: estimates[0][name] for name in ("value", "ci95", "n")} | {"seeds": 1}
    found = mean_over_seeds(estimates, bounds, points if shared and points and all(points) else None, shared)
    n = min(e["n"] for e in estimates)
    return {"value": found["mean"], "ci95": found["ci95"], "n": n, "seeds": found["n"]}
