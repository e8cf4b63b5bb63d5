"""A stage's training log: one row of numbers per logged step."""

import math
from collections.abc import Mapping

Row = dict[str, float | None]
TrainingLog = list[Row]


def log_row(numbers: Mapping[str, float | None]) -> Row:
    """NaN and infinity have no place in JSON; null says that the number could not be computed."""
    return {key: value if value is not None and math.isfinite(value) else None for key, value in numbers.items()}
