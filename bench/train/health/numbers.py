"""Numbers read off a log's rows."""

import math
from collections.abc import Sequence
from statistics import fmean

from bench.train.health.settings import HealthSettings
from bench.train.log import Row


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


def over(difference: float, error: float) -> float:
    """`difference` in units of `error`."""
    return difference / max(error, 1e-12)  # constant numbers have no error, and JSON no infinity


def has_settled(rows: Sequence[Row], settings: HealthSettings) -> bool:
    """Whether `patience` steps have passed since the learning rate stopped rising."""
    rates = last(rows, "learning_rate", settings.patience)
    return len(rates) == settings.patience and max(rates) == rates[0]
