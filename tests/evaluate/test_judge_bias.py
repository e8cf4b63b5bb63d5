import pytest

from bench.evaluate.judges.bias import judge_report
from bench.records import Verdict, VerdictLabel

LENGTHS = {"x": {f"p{i}": 10.0 for i in range(40)}, "y": {f"p{i}": 20.0 for i in range(40)}}
LENGTHS["z"] = LENGTHS["x"]


def verdict(prompt: int, order: str, label: VerdictLabel, arms: str = "xy") -> Verdict:
    return Verdict(f"p{prompt}", arms[0], arms[1], order, label, "openai", "h")  # pyright: ignore


def test_by_hand():
    """First shown wins: p0 twice, p1 never, p2 once of two; y, the longer one, wins 4 of its 6."""
    verdicts = [
        *(verdict(0, "ab", "a"), verdict(0, "ba", "b")),  # x first, x; y first, y
        *(verdict(1, "ab", "b"), verdict(1, "ba", "a")),  # x first, y; y first, x
        *(verdict(2, "ab", "b"), verdict(2, "ba", "b")),  # x first, y; y first, y
        *(verdict(3, "ab", "tie"), verdict(3, "ba", "unparsed")),
    ]

    report = judge_report(verdicts, LENGTHS, seed=0, resamples=200)

    assert report["position_bias"]["value"] == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert report["length_bias"]["value"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert report["position_bias"]["n"] == report["length_bias"]["n"] == 3
    assert (report["decided"], report["ties"], report["unparsed"]) == (6, 1, 1)


def test_equal_lengths_say_nothing_of_length():
    report = judge_report([verdict(0, "ab", "a", "xz"), verdict(0, "ba", "b", "xz")], LENGTHS, seed=0, resamples=200)

    assert report["length_bias"] == {"value": None, "ci95": None, "n": 0}
    assert report["position_bias"]["value"] == 1.0


def test_a_judge_that_reads_only_the_first_and_one_that_counts_words():
    reader = [verdict(i, order, "a" if order == "ab" else "b") for i in range(40) for order in ("ab", "ba")]
    counter = [verdict(i, order, "b") for i in range(40) for order in ("ab", "ba")]

    first, longer = (judge_report(verdicts, LENGTHS, seed=0, resamples=200) for verdicts in (reader, counter))

    assert first["position_bias"]["value"] == 1.0 and first["position_bias"]["ci95"][0] > 0.9
    assert first["length_bias"]["value"] == 0.5
    assert longer["length_bias"]["value"] == 1.0 and longer["length_bias"]["ci95"][0] > 0.9
    assert longer["position_bias"]["value"] == 0.5
    low, high = longer["position_bias"]["ci95"]
    assert low <= 0.5 <= high


def test_prompts_are_the_unit():
    """A prompt on which many arms met weighs as much as another."""
    verdicts = [verdict(0, "ab", "a", arms) for arms in ("xy", "xz", "zy")] + [verdict(1, "ab", "b")]

    report = judge_report(verdicts, LENGTHS, seed=0, resamples=200)

    assert report["position_bias"]["value"] == 0.5 and report["position_bias"]["n"] == 2


def test_no_verdicts():
    assert judge_report([], LENGTHS, seed=0)["position_bias"] == {"value": None, "ci95": None, "n": 0}
