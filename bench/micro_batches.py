"""Micro-batches: rows of similar length that run through a network together, bounded so that memory is.

Results do not depend on the cut (but for rounding).
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from bench.records import Rows

R = TypeVar("R", bound=Rows)


def similar_lengths(
    lengths: Sequence[int], max_rows: int | None = None, max_tokens: int | None = None, at_least: int = 1
) -> list[list[int]]:
    """Row numbers in groups, shortest rows first; each row is in exactly one group.

    Args:
        lengths: tokens of each row.
        max_rows: rows of one group.
        max_tokens: tokens of one group; a row that is longer alone is a group of its own.
        at_least: number of groups (of the rows there are) below which groups are cut in two, the largest first: every
            process of a distributed run needs the same number.
    """
    groups: list[list[int]] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        tokens += lengths[row]
        full = not groups or (max_rows is not None and len(groups[-1]) >= max_rows)
        if full or (max_tokens is not None and tokens > max_tokens):
            groups.append([])
            tokens = lengths[row]
        groups[-1].append(row)
    while len(groups) < min(at_least, len(lengths)):
        largest = max(range(len(groups)), key=lambda g: len(groups[g]))
        half = len(groups[largest]) // 2
        groups[largest : largest + 1] = [groups[largest][:half], groups[largest][half:]]
    return groups


def micro_batches(
    rows: Int[Tensor, " N"],
    lengths: Int[Tensor, " B"],
    max_rows: int | None = None,
    max_tokens: int | None = None,
    at_least: int = 1,
) -> list[Int[Tensor, " _"]]:
    """Some of a batch's rows in the groups that run together; `lengths` are those of the whole batch."""
    groups = similar_lengths(lengths[rows].tolist(), max_rows, max_tokens, at_least)
    return [rows[torch.tensor(group, device=rows.device)] for group in groups]


def take(batch: R, rows: Int[Tensor, " n"]) -> R:
    """Some rows of a batch, in the order given, without the padding that only the others need."""
    part = type(batch)(*(getattr(batch, field.name)[rows] for field in fields(batch)))
    return replace(part, input_ids=part.input_ids[:, : int(part.lengths.max())])
