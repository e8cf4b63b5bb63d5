"""What the checks look at: one number each, read off the log's rows so far, or None while there is nothing to judge."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, median

from bench.train.health.settings import HealthSettings
from bench.train.log import Row

Measure = Callable[[Sequence[Row], HealthSettings], float | None]


# Numbers of a log ----------------------------------------------------------------------------------------------------


def last(rows: Sequence[Row], key: str, count: int) -> list[float]:
    """The last `count` numbers under `key`, oldest first; fewer where there are fewer."""
    found: list[float] = []
    for row in reversed(rows):
        value = row.get(key)
        if value is not None:
            found.append(value)
            if len(found) == count:
                break
    return found[::-1]


def first(rows: Sequence[Row], key: str) -> float | None:
    return next((value for row in rows if (value := row.get(key)) is not None), None)


def mean_of_last(rows: Sequence[Row], key: str, count: int) -> float | None:
    """None while there are fewer than `count`."""
    values = last(rows, key, count)
    return fmean(values) if len(values) == count else None


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of at least two numbers. (`statistics.variance` computes in fractions, 30 times slower.)"""
    mean = fmean(values)
    return math.sqrt(fmean((value - mean) ** 2 for value in values) / (len(values) - 1))


def _over(difference: float, error: float) -> float:
    return difference / max(error, 1e-12)  # constant numbers have no error, and JSON no infinity


def has_settled(rows: Sequence[Row], settings: HealthSettings) -> bool:
    """Whether `patience` steps have passed since the learning rate stopped rising."""
    rates = last(rows, "learning_rate", settings.patience)
    return len(rates) == settings.patience and max(rates) == rates[0]


# All trainers --------------------------------------------------------------------------------------------------------


def not_finite(*keys: str) -> Measure:
    """How many of these numbers the last row could not give: the log has null for NaN and infinity."""
    return lambda rows, settings: float(sum(key in rows[-1] and rows[-1][key] is None for key in keys))


def grad_spike(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """The last gradient norm over the median of those before."""
    now, earlier = rows[-1].get("grad_norm"), last(rows[:-1][-settings.patience :], "grad_norm", settings.patience)
    return None if now is None or len(earlier) < 10 else _over(now, median(earlier))


# SFT, reward model, DPO ----------------------------------------------------------------------------------------------


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
    return _over(fmean(now) - fmean(before), math.hypot(standard_error(before), standard_error(now)))


def loss_above(start: Callable[[Sequence[Row]], float | None]) -> Measure:
    """Mean loss of the last `window` steps over that of a model that has learned nothing."""

    def measure(rows: Sequence[Row], settings: HealthSettings) -> float | None:
        untrained, mean = start(rows), mean_of_last(rows, "loss", settings.window)
        return None if not untrained or mean is None or not has_settled(rows, settings) else mean / untrained

    return measure


def accuracy_floor(key: str) -> Measure:
    """Lower end of the 95 % interval of the accuracy on the last `patience` batches."""

    def measure(rows: Sequence[Row], settings: HealthSettings) -> float | None:
        accuracies = last(rows, key, settings.patience)
        if len(accuracies) < settings.patience or not has_settled(rows, settings):
            return None
        return fmean(accuracies) - 1.96 * standard_error(accuracies)

    return measure


def both_fallen(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """How far chosen and rejected log-probs lie from the reference's, in standard errors: the higher of the two.

    Read off the implicit rewards: beta x (log policy - log reference), so that what varies between texts is out.
    """
    chosen, rejected = (last(rows, f"rewards/{side}", settings.window) for side in ("chosen", "rejected"))
    if min(len(chosen), len(rejected)) < max(2, settings.window):
        return None
    return max(_over(fmean(values), standard_error(values)) for values in (chosen, rejected))


def memorised_margin(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """The mean margin while nearly every pair is ordered as the labels have it; these are noisy, so none should be."""
    accuracy = mean_of_last(rows, "rewards/accuracies", settings.window)
    if accuracy is None or accuracy < settings.overfit_accuracy:
        return None
    return mean_of_last(rows, "rewards/margins", settings.window)


# PPO and RLOO --------------------------------------------------------------------------------------------------------


def mean_update(key: str) -> Measure:
    return lambda rows, settings: mean_of_last(rows, key, settings.updates)


def last_update(key: str) -> Measure:
    return lambda rows, settings: rows[-1].get(key)


def share_of_start(key: str) -> Measure:
    """Mean of the last updates over the first one's, whose completions are the SFT model's."""

    def measure(rows: Sequence[Row], settings: HealthSettings) -> float | None:
        start, mean = first(rows, key), mean_of_last(rows, key, settings.updates)
        return None if mean is None or not start else mean / start

    return measure


def best_explained(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """Largest explained variance of the last `unexplained_updates`."""
    values = last(rows, "explained_variance", settings.unexplained_updates)
    return max(values) if len(values) == settings.unexplained_updates else None


def finished_drop(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """How far the share of finished completions has fallen since the first updates; None unless the score rose."""
    if len(rows) < 2 * settings.updates:
        return None
    early, late = rows[: settings.updates], rows[-settings.updates :]

    def gain(key: str) -> float:
        return fmean(last(late, key, len(late)) or [0.0]) - fmean(last(early, key, len(early)) or [0.0])

    return -gain("finished") if gain("score") > 0 else None


def overoptimised(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """How far the true reward has fallen from its best while the score rose, each in its standard errors; the smaller.

    The noise of one update is read off the differences of neighbours (von Neumann 1941), which a slow trend hardly
    touches.
    """
    size = settings.updates
    known = [
        (gold, score) for row in rows if (gold := row.get("gold")) is not None and (score := row["score"]) is not None
    ]
    if len(known) < 4 * size:
        return None
    golds, scores = zip(*known, strict=True)
    best = max(range(len(golds) - 2 * size + 1), key=lambda start: fmean(golds[start : start + size]))

    def change(values: Sequence[float]) -> float:
        steps = [b - a for a, b in pairwise(values)]
        error = math.sqrt(fmean(step * step for step in steps) / 2) * math.sqrt(2 / size)
        return _over(fmean(values[-size:]) - fmean(values[best : best + size]), error)

    return min(-change(golds), change(scores))
