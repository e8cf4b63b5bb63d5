"""The three words that a question to the data can end in, and the one place where they are chosen."""

from collections.abc import Mapping
from typing import Any, Literal

from bench.evaluate.statistics import ALPHA, Counts

Decision = Literal["supported", "contradicted", "not decided at this n"]
SUPPORTED: Decision = "supported"
CONTRADICTED: Decision = "contradicted"
NOT_DECIDED: Decision = "not decided at this n"


def decide(estimate: Mapping[str, Any] | None, threshold: float, p_value: float | None) -> Decision:
    """Whether the quantity lies above `threshold`: where its interval says so, and an exact test agrees.

    An interval alone decides too often at tiny n: the score interval of 4 wins of 4 is [51 %, 100 %], and a fair coin
    falls four times on one side in one of eight cases. It also decides too often where many questions are asked.

    Args:
        estimate: a `{"value", "ci95", ...}` of metrics.json; without an interval nothing is decided.
        p_value: of the exact test that the quantity is `threshold`, adjusted (`holm`) where the question is one of a
            family; None, where nothing was tested, decides nothing.
    """
    if estimate is None or estimate["ci95"] is None or p_value is None or p_value >= ALPHA:
        return NOT_DECIDED
    low, high = estimate["ci95"]
    if low > threshold:
        return SUPPORTED
    return CONTRADICTED if high < threshold else NOT_DECIDED


def judged_counts(rate: Mapping[str, Any]) -> Counts:
    """Wins, losses and n of a judged estimate of metrics.json that has a value."""
    wins = round(rate["n"] * rate["value"] - rate["ties"] / 2)
    return Counts(wins, rate["n"] - rate["ties"] - wins, rate["n"])
