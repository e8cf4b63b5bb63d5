"""Groups of rows of similar length."""

import pytest

from bench.micro_batches import similar_lengths


def test_rows_are_grouped_by_length_within_the_token_budget():
    # Sorted lengths are 1, 2, 4, 9: the first three are 7 tokens together; 9 is over the budget even alone.
    assert similar_lengths([9, 1, 4, 2], max_tokens=8) == [[1, 3, 2], [0]]
    assert similar_lengths([9, 1, 4, 2], max_tokens=6) == [[1, 3], [2], [0]]


def test_rows_are_grouped_by_number():
    assert similar_lengths([5, 5, 3, 4, 1], max_rows=2) == [[4, 2], [3, 0], [1]]


def test_both_limits_hold_at_once():
    # 2 rows of 3 are 6 tokens, within the budget; a third would break the limit of rows, and 7 stands alone.
    assert similar_lengths([3, 3, 3, 7], max_rows=2, max_tokens=6) == [[0, 1], [2], [3]]


def test_without_limits_all_rows_are_one_group():
    assert similar_lengths([2, 1, 3]) == [[1, 0, 2]]


@pytest.mark.parametrize(
    ("at_least", "expected"), [(2, [[0, 1], [2, 3]]), (3, [[0], [1], [2, 3]]), (9, [[0], [1], [2], [3]])]
)
def test_groups_are_cut_until_there_are_enough(at_least, expected):
    assert similar_lengths([1, 1, 1, 1], at_least=at_least) == expected


def test_no_rows_are_no_groups():
    assert similar_lengths([], max_rows=2, at_least=3) == []
