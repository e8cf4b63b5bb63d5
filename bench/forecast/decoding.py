"""How many steps sampling takes: a batch goes on until its longest completion ends, and finished rows leave it late."""

from typing import NamedTuple

import numpy as np

from bench.forecast.rows import Ints
from bench.generation import _COMPACT_WHEN_FINISHED as COMPACT_WHEN_FINISHED

_BATCHES = 24  # that are drawn to find the mean


class Decoding(NamedTuple):
    """Means over batches: forward passes behind the prompts, their rows, and the positions behind the prompt that
    those rows attend to."""

    steps: float
    rows: float
    positions: float


def decoding(lengths: Ints, batch: int) -> Decoding:
    """Of batches whose completions are as long as `lengths` are, EOS included."""
    draws = np.random.default_rng(0).choice(lengths, (_BATCHES, batch))
    return Decoding(*np.mean([_one(draw) for draw in draws], axis=0).tolist())


def _one(lengths: Ints) -> tuple[int, int, int]:
    """One batch, as `bench.generation.sample` runs it: the last token of a row is drawn and not run."""
    cached = lengths
    steps = rows = positions = 0
    for step in range(1, int(lengths.max())):
        live = cached > step
        if 1 - live.mean() >= COMPACT_WHEN_FINISHED:
            cached = cached[live]
        steps, rows, positions = steps + 1, rows + len(cached), positions + len(cached) * step
    return steps, rows, positions
