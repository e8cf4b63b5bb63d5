import itertools
from collections.abc import Mapping, Sequence

import pytest

from bench.evaluate.panel import agreement_of_judges, majority, majority_of
from bench.evaluate.win_rate import resolve
from bench.records import Verdict


def verdicts(judge: str, labels: Sequence[str], arm: str = "x") -> list[Verdict]:
    """One prompt per label; a label of two letters is what the orders ab and ba say, in terms of the arms."""
    return [
        Verdict(f"p{i}", arm, "y", order, {"a": "a", "b": "b", "t": "tie", "u": "unparsed"}[letter], judge, "h")  # pyright: ignore[reportArgumentType]
        for i, label in enumerate(labels)
        for order, letter in zip(("ab", "ba"), label, strict=False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ("aab", "a"),
        ("bbb", "b"),
        ("abt", "tie"),
        ("att", "tie"),
        ("aat", "a"),
        ("ab", "tie"),
        ("at", "tie"),  # one of two is not more than half
        ("aabb", "tie"),
        ("aabt", "tie"),
        ("auu", "a"),  # who says nothing that can be read has no vote
        ("abu", "tie"),
        ("aau", "a"),
        ("uuu", "unparsed"),
    ],
)
def test_majority_of(votes: str, label: str):
    words = {"a": "a", "b": "b", "t": "tie", "u": "unparsed"}
    assert all(majority_of([words[vote] for vote in order]) == label for order in itertools.permutations(votes))  # pyright: ignore[reportArgumentType]


def test_the_panel_votes_with_each_judges_verdict_over_both_orders():
    """The second judge says whatever is shown first: a tie, which is no vote for either side."""
    members = {
        "one": verdicts("one", ["aa", "aa", "bb"]),
        "first": verdicts("first", ["ab", "ab", "ab"]),
        "three": verdicts("three", ["aa", "bb", "bu"]),
    }
    panel = majority(members)

    # a, tie, a; a, tie, b; b, tie, unparsed
    assert resolve(panel) == {"p0": "a", "p1": "tie", "p2": "tie"}
    assert {(row.judge, row.prompt_hash, row.arm_a, row.arm_b) for row in panel} == {("panel", "", "x", "y")}
    assert [(row.prompt_id, row.order) for row in panel] == [
        (f"p{i}", order) for i in range(3) for order in ("ab", "ba")
    ]


def both(one: Sequence[str], other: Sequence[str], arm: str = "x") -> Mapping[str, list[Verdict]]:
    return {"one": verdicts("one", one, arm), "other": verdicts("other", other, arm)}


def test_agreement_by_hand():
    """8 prompts in one order; of the 7 that both were read on: 3 aa, 2 bb, 1 ab, 1 a against a tie."""
    (entry,) = agreement_of_judges([both(list("aaabbaau"), list("aaabbbta"))], seed=0, resamples=200)

    assert entry["judges"] == ["one", "other"] and entry["verdicts"] == 7
    assert entry["agreement"]["value"] == pytest.approx((5 + 0.5) / 7) and entry["agreement"]["n"] == 7
    # one: 5 a, 2 b; other: 3 a, 3 b, 1 tie. Same in 5 of 7; by chance (5 * 3 + 2 * 3) / 49 = 21 / 49 = 3 / 7.
    assert entry["kappa"]["value"] == pytest.approx((5 / 7 - 3 / 7) / (1 - 3 / 7))
    low, high = entry["agreement"]["ci95"]
    assert 0 <= low < 5.5 / 7 < high <= 1


def test_a_prompt_is_one_value_however_many_pairs_it_was_judged_on():
    """p0 agrees with x and not with z, p1 was read with x alone and agrees: (.5 + 1) / 2, not 2 / 3."""
    duels = [both(["a", "a"], ["a", "a"], "x"), both(["a", "u"], ["b", "a"], "z")]
    (entry,) = agreement_of_judges(duels, seed=0, resamples=200)

    assert entry["agreement"]["value"] == 0.75 and entry["agreement"]["n"] == 2 and entry["verdicts"] == 3


def test_every_two_judges_once():
    judged = {judge: verdicts(judge, list("abab")) for judge in ("one", "two", "three")}
    entries = agreement_of_judges([judged], seed=0, resamples=200)

    assert [entry["judges"] for entry in entries] == [["one", "two"], ["one", "three"], ["two", "three"]]
    assert {entry["kappa"]["value"] for entry in entries} == {1.0}


def test_nothing_was_read():
    (entry,) = agreement_of_judges([both(["u", "u"], ["a", "b"])], seed=0)

    assert entry["agreement"] == entry["kappa"] == {"value": None, "ci95": None, "n": 0} and entry["verdicts"] == 0


def test_whole_posts_are_resampled_where_several_prompts_are_of_one():
    """8 prompts, of 4 posts that are all alike within: as if there were 4, but for the t quantile of so few."""
    judged = both(list("aabbaabb"), list("aaaaaabb"))
    posts = {f"p{i}": f"post {i // 2}" for i in range(8)}
    (found,) = agreement_of_judges([judged], seed=0, resamples=500, posts=posts)
    (alone,) = agreement_of_judges([both(list("abab"), list("aaab"))], seed=0, resamples=500)

    assert found["agreement"]["value"] == alone["agreement"]["value"] == 0.75
    assert (found["agreement"]["n"], alone["agreement"]["n"]) == (8, 4)
    assert found["agreement"]["ci95"][0] < alone["agreement"]["ci95"][0]
    assert found["kappa"]["ci95"] == alone["kappa"]["ci95"]
