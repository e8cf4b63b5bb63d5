"""Two independent shares: intervals, and what they decide, by hand."""

import math

import pytest

from bench.evaluate.reproduction import agreement, published_estimate, what_differs

Z = 1.959964
THERE = {"data": "tldr", "model": "EleutherAI/gpt-j-6b", "judge": "gpt-4", "temperature": 0.0}


def wilson(wins: int, n: int) -> tuple[float, float]:
    centre, half = wins + Z**2 / 2, Z * math.sqrt(wins * (n - wins) / n + Z**2 / 4)
    return (centre - half) / (n + Z**2), (centre + half) / (n + Z**2)


def published(value: float | None, n: int | None, seeds: list[float] | None = None) -> dict:
    return {**THERE, "value": value, "n": n, "seeds": seeds}


def test_a_published_share_has_the_interval_of_its_n():
    found = published_estimate(published(158 / 256, 256))

    assert found["ci95"] == pytest.approx(wilson(158, 256), abs=1e-6)
    assert published_estimate(published(0.36, None)) == {
        "value": 0.36,
        "ci95": None,
        "n": None,
        "reason": "their n is not published",
    }


def test_published_seeds_have_students_t_over_them():
    found = published_estimate(published(None, None, [0.73, 0.71, 0.71, 0.75]))

    # Mean 0.725, sd 0.019149; t of 3 degrees of freedom is 3.182446; on the logit scale.
    half = 3.182446 * 0.019149 / 2 / (0.725 * 0.275)
    assert found["value"] == pytest.approx(0.725)
    assert found["ci95"][1] == pytest.approx(1 / (1 + 0.275 / 0.725 * math.exp(-half)), rel=1e-4)


def test_newcombes_example():
    """Newcombe 1998, table II, column (a): 56/70 against 48/80 differ by 0.2, [0.0524, 0.3339] by method 10."""
    ours, theirs = ({"value": a / n, "ci95": list(wilson(a, n))} for a, n in ((56, 70), (48, 80)))

    assert agreement(ours, theirs)["difference"] == {
        "value": pytest.approx(0.2),
        "ci95": pytest.approx([0.0524, 0.3339], abs=5e-5),
    }


@pytest.mark.parametrize(
    ("wins", "n", "verdict", "strictly"),
    [
        (600, 1000, "consistent", "not decided at this n"),  # +- 4.3 points
        (650, 1000, "consistent", "not consistent"),  # 0.8 to 9.2: beyond 0, and yet within 10
        (720, 1000, "not consistent", "not consistent"),
        (60, 100, "not decided at this n", "not decided at this n"),  # +- 10.0
    ],
)
def test_what_an_interval_decides(wins, n, verdict, strictly):
    ours, theirs = ({"value": a / m, "ci95": list(wilson(a, m))} for a, m in ((wins, n), (600, 1000)))

    assert agreement(ours, theirs)["verdict"] == verdict
    assert agreement(ours, theirs, margin=0.01)["verdict"] == strictly


def test_without_an_interval_nothing_is_decided():
    ours = {"value": 0.6, "ci95": [0.55, 0.65]}
    found = agreement(ours, published_estimate(published(0.9, None)))

    assert (found["verdict"], found["reason"]) == ("not decided at this n", "their n is not published")
    assert found["difference"]["value"] == pytest.approx(-0.3)


def test_what_makes_two_numbers_incomparable_is_named():
    assert what_differs(THERE, THERE) == []
    assert what_differs(THERE, THERE | {"judge": "gpt-4-0314"}) == []
    assert what_differs(THERE, THERE | {"judge": "gpt-4o"}) == ["judge gpt-4o here, gpt-4 there"]
    assert what_differs(THERE | {"temperature": None}, THERE | {"temperature": 0.7}) == []
    assert what_differs(THERE, THERE | {"model": "tiny", "temperature": 0.7}) == [
        "model tiny here, EleutherAI/gpt-j-6b there",
        "temperature 0.7 here, 0 there",
    ]
