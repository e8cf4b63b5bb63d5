"""What watches trainers on preference pairs."""

from collections.abc import Callable, Sequence
from statistics import fmean

from bench.train.health.check import Check, Measure
from bench.train.health.numbers import has_settled, last, mean_of_last, standard_error
from bench.train.health.settings import HealthSettings
from bench.train.log import Row


def pairwise(accuracy: str, start: Callable[..., float | None], start_in_words: str) -> tuple[Check, ...]:
    return (
        Check(
            "accuracy_stuck",
            "warning",
            accuracy_floor(accuracy),
            "below",
            lambda s: 0.5,
            "it tells chosen from rejected no better than a coin (lower end of the 95 % interval: {value:.2f})",
            "a higher {group}.learning_rate or more pairs; check that chosen and rejected are not swapped or mixed",
        ),
        Check(
            "loss_above_start",
            "warning",
            loss_above(start),
            "above",
            lambda s: s.max_loss_share,
            f"the loss is {{value:.3g}} times {start_in_words}: training has made it worse than not knowing",
            "a lower {group}.learning_rate, or more {group}.warmup_steps",
        ),
    )


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
