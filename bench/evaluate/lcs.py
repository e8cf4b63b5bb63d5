"""The longest common subsequence of two texts, a whole row of its table at a time in the bits of one number.

Row i of the table counts the words that the first i words of one text have in common, in order, with the first j of
the other; from one j to the next it grows by 0 or 1, and bit j - 1 of a row is 0 where it grows (Hyyrö 2004,
Bit-parallel LCS-length computation revisited).
"""

from collections.abc import Container, Mapping, Sequence

Places = Mapping[str, int]
"""Word -> its places in a text: bit j of the number is word j."""


def places_of(words: Sequence[str], among: Container[str] | None = None) -> Places:
    """Of every word, or of those `among` these alone."""
    found: dict[str, int] = {}
    for j, word in enumerate(words):
        if among is None or word in among:
            found[word] = found.get(word, 0) | 1 << j
    return found


def rows(a: Sequence[str], b: Places, length: int) -> list[int]:
    """The rows of a's first 0, 1, ... words against b, which has `length` words; a bit beyond these says nothing."""
    row = (1 << length) - 1
    table = [row]
    for word in a:
        if matched := row & b.get(word, 0):
            row = (row + matched) | (row - matched)
        table.append(row)
    return table


def common_length(a: Sequence[str], b: Places, length: int) -> int:
    """How many words of a and b, which has `length`, are common and in one order."""
    return length - (rows(a, b, length)[-1] & (1 << length) - 1).bit_count()


def common_indices(a: Sequence[str], b: Places, length: int) -> list[int]:
    """Places in a, from the last to the first, of one longest common subsequence: of several that which the package
    rouge-score finds, from the end on: a common word where there is one, else without a's last word, unless more are
    left without b's."""
    table = rows(a, b, length)
    found: list[int] = []
    i, j = len(a), length
    while i and j:
        if table[i] == table[0]:  # nothing in common any more
            break
        if b.get(a[i - 1], 0) >> (j - 1) & 1:
            found.append(i - 1)
            i, j = i - 1, j - 1
        elif table[i] == table[i - 1]:  # b has nowhere a's last word
            i -= 1
        else:
            without_b = j - 1 - (table[i] & (1 << j - 1) - 1).bit_count()
            without_a = j - (table[i - 1] & (1 << j) - 1).bit_count()
            i, j = (i, j - 1) if without_b > without_a else (i - 1, j)
    return found
