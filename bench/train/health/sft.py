"""What watches SFT."""

import math
from collections.abc import Sequence
from statistics import fmean

from bench.train.health.check import GRAD_SPIKE, Check, Checklist, not_finite
from bench.train.health.numbers import has_settled, last, over, standard_error
from bench.train.health.settings import HealthSettings
from bench.train.log import Row


def loss_fall(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """How far the loss of the last `patience` steps lies below that of the first."""
    if len(rows) < 2 * settings.patience or not has_settled(rows, settings):
        return None
    early, late = (
        last(part, "loss", settings.patience) for part in (rows[: settings.patience], rows[-settings.patience :])
    )
    return fmean(early) - fmean(late) if early and late else None


def loss_rise(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """How far the loss of the last `window` steps lies above that of the run's middle, in standard errors."""
    window, middle = settings.window, len(rows) // 2 - settings.window // 2
    if len(rows) < 3 * window:
        return None
    before, now = last(rows[middle : middle + window], "loss", window), last(rows, "loss", window)
    if len(before) < 2 or len(now) < 2:
        return None
    return over(fmean(now) - fmean(before), math.hypot(standard_error(before), standard_error(now)))


SFT = Checklist(
    "sft",
    (
        not_finite("loss", "grad_norm"),
        GRAD_SPIKE,
        Check(
            "loss_not_falling",
            "warning",
            loss_fall,
            "below",
            lambda s: 0.0,
            "the loss is no lower than at the start: the model has learned nothing",
            "a higher {group}.learning_rate if the loss lies flat, a lower one if it jumped in the first steps",
        ),
        Check(
            "loss_rising",
            "warning",
            loss_rise,
            "above",
            lambda s: s.standard_errors,
            "the loss rises: it lies {value:.1f} standard errors above that of the middle of the run",
            "a lower {group}.learning_rate, or more {group}.warmup_steps",
        ),
    ),
)
