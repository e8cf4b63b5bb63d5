import json
import math

import numpy as np
import pytest

from bench.errors import ConfigError
from bench.evaluate.judge_error import (
    Labelled,
    check_labels,
    corrected_win_rate,
    error_rates,
    labelled,
    read_labelled,
)
from bench.evaluate.simulation.judge_error import ErringJudge, corrected_coverage

Z = 1.959964


def rows(table):
    """(label, verdict) -> pairs, each of a post of its own."""
    every = [key for key, times in table.items() for _ in range(times)]
    return [Labelled(str(i), float(label), float(verdict), 1.0) for i, (label, verdict) in enumerate(every)]


# Sensitivity 300/400, specificity 180/200.
LABELS = rows({(1, 1): 300, (1, -1): 100, (-1, -1): 180, (-1, 1): 20})
LONGER, SHORTER, EQUAL = (3, 2), (2, 3), (2, 2)


def test_it_is_the_estimator_of_rogan_and_gladen_seen_from_the_longer_summary():
    won = [1.0] * 50 + [0.0] * 50
    # Seen from the longer summary: (0.5 + 0.9 - 1) / (0.75 + 0.9 - 1); the arm is that summary, or the other one.
    assert corrected_win_rate(won, [LONGER] * 100, LABELS)["value"] == pytest.approx(0.4 / 0.65)
    assert corrected_win_rate(won, [SHORTER] * 100, LABELS)["value"] == pytest.approx(1 - 0.4 / 0.65)
    # On half of the prompts each: what the judge's leaning gives on one half it takes on the other.
    half = [LONGER] * 25 + [SHORTER] * 25
    assert corrected_win_rate(won, [*half, *half], LABELS)["value"] == pytest.approx(0.5)
    assert corrected_win_rate(won, [EQUAL] * 100, LABELS)["value"] == pytest.approx(0.5)


def test_prompts_by_length_are_corrected_as_two_groups_would_be():
    # 60 prompts with the longer summary, 39 won; 40 with the shorter one, 10 won: 30 to the longer one.
    longer, shorter = (39 / 60 - 0.1) / 0.65, (30 / 40 - 0.1) / 0.65
    expected = (60 * longer + 40 * (1 - shorter)) / 100
    points = [1.0] * 39 + [0.0] * 21 + [1.0] * 10 + [0.0] * 30
    found = corrected_win_rate(points, [LONGER] * 60 + [SHORTER] * 40, LABELS)
    assert found["value"] == pytest.approx(expected)


def test_ties_lie_on_the_line_between_wins_and_losses():
    labels = rows({(1, 1): 6, (1, 0): 2, (1, -1): 2, (0, 1): 2, (0, 0): 2, (0, -1): 1, (-1, 1): 1, (-1, -1): 4})
    t = np.array([row.label for row in labels])
    s = np.array([row.verdict for row in labels])
    slope, intercept = np.polyfit(t, s, 1)
    points = [1.0] * 30 + [0.5] * 6 + [0.0] * 24  # mean of s: 6/60
    found = corrected_win_rate(points, [LONGER] * 60, labels)
    assert found["value"] == pytest.approx((1 + (0.1 - intercept) / slope) / 2)


def test_the_interval_holds_what_the_score_test_does_not_reject():
    # The variance at an end, term by term: binomial of the verdicts, and of sensitivity and specificity with one
    # right and one wrong verdict more on each side, independent as they come from different pairs.
    points = [1.0] * 60 + [0.0] * 40
    found = corrected_win_rate(points, [LONGER] * 100, LABELS)
    se, sp = 301 / 402, 181 / 202
    inflated = 604 / 602  # n / (n - 2)
    for end in found["ci95"]:
        expected = 0.75 * end + 0.1 * (1 - end)  # share of verdicts for the arm
        variance = expected * (1 - expected) / 100
        variance += inflated * (end**2 * se * (1 - se) / 402 + (1 - end) ** 2 * sp * (1 - sp) / 202)
        assert abs(0.6 - expected) == pytest.approx(Z * math.sqrt(variance), rel=1e-3)


def test_pairs_of_one_post_count_once():
    judged = [1.0] * 60_000 + [0.0] * 40_000, [LONGER] * 100_000  # so many that the error is the labels'
    once = corrected_win_rate(*judged, LABELS)
    copies = [row for row in LABELS for _ in range(4)]
    together = corrected_win_rate(*judged, copies)
    apart = [row._replace(post=f"{row.post}-{i}") for i, row in enumerate(copies)]
    separate = corrected_win_rate(*judged, apart)
    assert together["ci95"] == pytest.approx(once["ci95"], abs=2e-3)  # but for the four made-up pairs
    widths = [high - low for low, high in (once["ci95"], separate["ci95"])]
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.05)  # four times the pairs


@pytest.mark.parametrize(
    ("points", "labels", "reason"),
    [
        ([], LABELS, "no parsed verdicts"),
        ([1.0, 0.0], rows({(1, 1): 9, (1, -1): 1}), "the labelled pairs prefer the longer summary always or never"),
        ([1.0, 0.0], rows({(1, 1): 50, (1, -1): 50, (-1, -1): 50, (-1, 1): 50}), "on 200 labelled pairs the judge is"),
        ([1.0, 0.0], rows({(1, 1): 10, (1, -1): 90, (-1, -1): 10, (-1, 1): 90}), "on 200 labelled pairs the judge is"),
        # 7 of 10 is not above chance: p = 0.34.
        ([1.0, 0.0], rows({(1, 1): 3, (1, -1): 2, (-1, -1): 4, (-1, 1): 1}), "on 10 labelled pairs the judge is"),
        # It says so in 75 % at most, whatever is true.
        ([1.0] * 95 + [0.0] * 5, LABELS, "the verdicts are more one-sided than the judge's errors"),
    ],
)
def test_where_it_cannot_be_corrected_it_says_why(points, labels, reason):
    found = corrected_win_rate(points, [LONGER] * len(points), labels)
    assert found["reason"].startswith(reason)
    assert (found["value"], found["ci95"], found["n"]) == (None, None, len(points))


def test_just_beyond_what_the_errors_allow_is_chance_and_the_end_of_the_scale():
    found = corrected_win_rate([1.0] * 78 + [0.0] * 22, [LONGER] * 100, LABELS)
    assert (found["value"], found["ci95"][1]) == (1.0, 1.0) and 0.8 < found["ci95"][0] < 1


def test_rows_are_seen_from_the_longer_summary_and_weigh_as_pairs():
    found = labelled(
        ["p", "q", "r", "s"],
        ["a", "b", "tie", "unparsed"],
        [["a", "b"], ["b"], ["a"], ["a"]],
        [(5, 3), (5, 3), (4, 4), (1, 2)],
    )
    assert found == [
        Labelled("p", 1, 1, 0.5),
        Labelled("p", -1, 1, 0.5),
        Labelled("q", -1, -1, 1),
        Labelled("r", 1, 0, 0.5),
        Labelled("r", -1, 0, 0.5),
    ]
    rates = error_rates(found)
    assert rates["sensitivity"]["value"] == pytest.approx((0.5 + 0.25) / 1)
    assert rates["specificity"]["value"] == pytest.approx((1 + 0.25) / 2)
    assert (rates["sensitivity"]["n"], rates["specificity"]["n"]) == (1, 2)


@pytest.mark.parametrize("accuracy", [0.6, 0.75, 0.9])
def test_corrected_win_rates_cover(accuracy):
    share, refused = corrected_coverage(
        ErringJudge(accuracy, accuracy, ties=0.1, undecided=0.1), 256, 600, 200, np.random.default_rng(1)
    )
    assert 0.91 <= share <= 0.99 and refused < 0.05  # 95 % +- 2.5 standard errors of 200 repetitions


def test_a_judge_that_leans_is_corrected_and_a_coin_is_refused():
    rng = np.random.default_rng(2)
    leaning = ErringJudge(0.9, 0.6, win_rate=0.5, longer=0.9)
    share, _ = corrected_coverage(leaning, 256, 600, 300, rng)
    points, _ = leaning.judged(4000, rng)
    assert 0.92 <= share <= 0.985 and np.mean(points) > 0.58  # the raw rate: (.9 + .4) / 2 as the longer one
    assert corrected_coverage(ErringJudge(0.5, 0.5), 256, 600, 300, rng)[1] > 0.95


def write(folder, pairs, verdicts):
    (folder / "verdicts").mkdir(parents=True)
    (folder / "audit.json").write_text("{}")
    for name, found in (("pairs.jsonl", pairs), ("verdicts/judge.jsonl", verdicts)):
        if found:
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in found))


def test_an_audit_is_read_with_its_prompt(tmp_path):
    pairs = [
        {"pair_id": "1", "post": "x", "length_a": 2, "length_b": 5, "labels": ["b"]},
        {"pair_id": "2", "post": "x", "length_a": 5, "length_b": 2, "labels": ["b"]},
    ]
    said = {"arm_a": "summary_a", "arm_b": "summary_b", "judge": "gpt", "prompt_hash": "abc"}
    verdicts = [
        {"prompt_id": "1", "order": "ab", "verdict": "b", **said},
        {"prompt_id": "1", "order": "ba", "verdict": "a", **said},  # disagreement is a tie
        {"prompt_id": "2", "order": "ab", "verdict": "a", **said},
    ]
    write(tmp_path / "audit", pairs, verdicts)
    assert read_labelled(tmp_path / "audit") == {
        "gpt": ("abc", [Labelled("x", 1, 0, 1), Labelled("x", -1, 1, 1)]),
    }


def test_a_folder_without_labels_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no audit with its pairs\.jsonl; name a folder"):
        read_labelled(tmp_path)
    write(tmp_path / "audit", [{"pair_id": "1"}], [])
    with pytest.raises(ConfigError, match="nobody judges; repeat it with judge=NAME"):
        read_labelled(tmp_path / "audit")


def test_labels_of_another_judge_or_prompt_are_refused_at_the_start(tmp_path):
    pairs = [{"pair_id": "1", "post": "x", "length_a": 2, "length_b": 5, "labels": ["b"]}]
    said = {"prompt_id": "1", "order": "ab", "verdict": "b", "arm_a": "summary_a", "arm_b": "summary_b"}
    write(tmp_path / "audit", pairs, [{**said, "judge": "gpt", "prompt_hash": "abc"}])
    folders = [str(tmp_path / "audit")]
    check_labels(folders, ["gold", "gpt"], ["abc"])
    with pytest.raises(ConfigError, match="is of gpt, and the run's judges are gold, openai"):
        check_labels(folders, ["gold", "openai"], ["abc"])
    with pytest.raises(ConfigError, match="asked gpt with another prompt; repeat it"):
        check_labels(folders, ["gpt"], ["def"])
