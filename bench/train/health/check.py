"""What a check is, and those of every trainer: what is measured, where it is unwell, and what that means in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.train.health.numbers import last, over
from bench.train.health.settings import HealthSettings
from bench.train.log import Row

Severity = Literal["note", "warning", "collapse"]
Measure = Callable[[Sequence[Row], HealthSettings], float | None]
"""One number off the log's rows so far, or None while there is nothing to judge."""


@dataclass(frozen=True)
class Check:
    """Fires when `measure` reaches `threshold`, from below (`above`) or from above (`below`).

    A `note` explains what is normal, a `warning` may be mended, a `collapse` is the end of what training could teach.
    `message` may name {value} and {threshold}; `advice` {group}, the trainer's group in the config.
    """

    name: str
    severity: Severity
    measure: Measure
    bad: Literal["above", "below"]
    threshold: Callable[[HealthSettings], float]
    message: str
    advice: str


@dataclass(frozen=True)
class Checklist:
    """What watches a trainer.

    Attributes:
        group: the trainer's group in the config, for advice.
        in_our_words: a row with another library's names changed to those that the checks know.
    """

    group: str
    checks: tuple[Check, ...]
    in_our_words: Callable[[Row], Row] = lambda row: row


NOT_FINITE = "not_finite"
"""The check of the only finding that ends a run."""


def not_finite(*keys: str) -> Check:
    return Check(
        NOT_FINITE,
        "collapse",
        missing_numbers(*keys),
        "above",
        lambda s: 1.0,
        "the loss or its gradient is not a finite number; training stopped before this step and the weights before it"
        " are kept",
        "a lower {group}.learning_rate, some {group}.warmup_steps, or model.precision=fp32",
    )


def missing_numbers(*keys: str) -> Measure:
    """How many of these numbers the last row could not give: the log has null for NaN and infinity."""
    return lambda rows, settings: float(sum(key in rows[-1] and rows[-1][key] is None for key in keys))


def grad_spike(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """The last gradient norm over the median of those before."""
    now, earlier = rows[-1].get("grad_norm"), last(rows[:-1][-settings.patience :], "grad_norm", settings.patience)
    return None if now is None or len(earlier) < 10 else over(now, median(earlier))


GRAD_SPIKE = Check(
    "grad_spike",
    "warning",
    grad_spike,
    "above",
    lambda s: s.grad_spike,
    "the gradient is {value:.3g} times as large as in the steps before: a batch unlike the others, or the start of a"
    " divergence",
    "a lower {group}.learning_rate or {group}.max_grad_norm; look at the texts of that batch",
)
