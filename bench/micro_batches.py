"""Rows of similar length together, bounded by tokens and not by rows alone, so that memory is."""

from collections.abc import Sequence


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
