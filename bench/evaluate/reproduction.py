"""Is our number that of a paper? Two estimates from independent prompts, and their difference. Needs no torch."""

import math
import re
from collections.abc import Mapping
from typing import Any

from bench.evaluate.seeds import mean_over_seeds
from bench.evaluate.statistics import score_interval

MARGIN = 0.1
"""Shares that differ by less are the same for a reproduction: the judge alone moves a win rate by as much."""
CONSISTENT, NOT_CONSISTENT = "consistent", "not consistent"
NOT_DECIDED, NOT_COMPARABLE = "not decided at this n", "not comparable"
_WHAT = ("data", "model", "judge", "temperature")


def published_estimate(number: Mapping[str, Any]) -> dict[str, Any]:
    """`{"value", "ci95", "n", "reason"}` of a published share: the score interval of its n, or Student's t over its
    seeds (`mean_over_seeds`); without either there is no interval, and the reason says so."""
    if number["seeds"]:
        found = mean_over_seeds([{"value": value} for value in number["seeds"]], (0, 1))
        return {"value": found["mean"], "ci95": found["ci95"], "n": None, "reason": found["reason"]}
    value, n = number["value"], number["n"]
    if n is None:
        return {"value": value, "ci95": None, "n": None, "reason": "their n is not published"}
    low, high = score_interval(value * n, (1 - value) * n, n)
    return {"value": value, "ci95": [float(low), float(high)], "n": n, "reason": None}


def what_differs(number: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Why a number of ours is of something else: `model gpt2 here, EleutherAI/gpt-j-6b there`; what the paper does not
    state is not held against it. A judge may carry its date (gpt-4-0314).

    Args:
        ours: data, model, judge and temperature.
    """
    differing = []
    for name in _WHAT:
        theirs, here = number[name], ours[name]
        dated = name == "judge" and re.fullmatch(rf"{re.escape(str(theirs))}-\d{{4}}.*", str(here)) is not None
        if theirs is not None and theirs != here and not dated:
            differing.append(f"{name} {_written(here)} here, {_written(theirs)} there")
    return differing


def agreement(ours: Mapping[str, Any], theirs: Mapping[str, Any], margin: float = MARGIN) -> dict[str, Any]:
    """Whether two independent shares agree: "difference", ours minus theirs, with "ci95"; "verdict" and "reason".

    The interval of the difference is made of both intervals (Newcombe 1998, Statistics in Medicine 17:873, method 10).
    Consistent: all of it lies within the margin, which takes 190 prompts on either side at the least. Not consistent:
    it lies beyond 0, and not within the margin. Else the two do not decide.
    """
    value = ours["value"] - theirs["value"]
    if ours["ci95"] is None or theirs["ci95"] is None:
        reason = theirs.get("reason") if theirs["ci95"] is None else "ours has no interval"
        return {"difference": {"value": value, "ci95": None}, "verdict": NOT_DECIDED, "reason": reason}
    (a, (a_low, a_high)), (b, (b_low, b_high)) = ((of["value"], of["ci95"]) for of in (ours, theirs))
    ends = [value - math.hypot(a - a_low, b_high - b), value + math.hypot(a_high - a, b - b_low)]
    within = -margin <= ends[0] and ends[1] <= margin
    beyond = ends[0] > 0 or ends[1] < 0
    verdict = CONSISTENT if within else NOT_CONSISTENT if beyond else NOT_DECIDED
    return {"difference": {"value": value, "ci95": ends}, "verdict": verdict, "reason": None}


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
