"""Numbers as the reports write them."""

import pytest

from bench.report.words import Cell, estimate, n_in_words, share, time_unit


def row(value, low, high):
    return {"x": value, "x_low": low, "x_high": high}


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (estimate(row(2.1, 1.5, 5.46), "x", 2), Cell("2.10", "[1.50, 5.46]")),
        (estimate(row(0.1, 0.0973, 0.1031), "x", 2), Cell("0.10", "[0.0973, 0.103]")),  # and not [0.10, 0.10]
        (share(row(0.0004, 0.0002, 0.0004), "x"), Cell("0.0 %", "[0.0200, 0.0400]")),
        (estimate(row(0.0, 0.0, 0.0), "x", 1), Cell("0.0", "all equal")),
        (estimate(row(0.5, None, None), "x", 1), Cell("0.5")),
        (estimate(row(float("nan"), 0.1, 0.2), "x"), Cell("–")),  # noqa: RUF001
    ],
)
def test_an_interval_is_never_shown_as_a_point(cell, shown):
    assert cell == shown


@pytest.mark.parametrize(
    ("hours", "shown"),
    [([1 / 60, 0.5 / 60], "60.0 s"), ([2 / 60], "2.00 min"), ([1.99, 0.1], "119.40 min"), ([2.0, 0.1], "2.00 h")],
)
def test_times_have_the_unit_that_fits_the_longest(hours, shown):
    unit = time_unit(hours)
    assert f"{unit.write(hours[0])} {unit.sign}" == shown


def test_counts_that_differ_are_told_by_their_ends():
    assert n_in_words([256, 256.0]) == "256 posts"
    assert n_in_words([1250, 256, 300], "pairs") == "256 to 1,250 pairs"
