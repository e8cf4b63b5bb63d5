import pytest

from bench.errors import DataError
from bench.evaluate.rules import (
    accuracy,
    agreement,
    lead,
    longer_wins,
    pair_scores,
    post_title,
    title_overlap_wins,
)
from bench.evaluate.statistics import mcnemar_test
from bench.records import PreferencePair

PROMPT = "SUBREDDIT: r/pets\n\nTITLE: my cat hates the rain\n\nPOST: It rained.\n\nTL;DR:"


def pair(chosen: str, rejected: str, prompt: str = PROMPT) -> PreferencePair:
    return PreferencePair("id", prompt, chosen, rejected)


def test_higher_number_wins_and_equal_is_half():
    assert pair_scores([2, 1, 1], [1, 2, 1]) == [1.0, 0.0, 0.5]


def test_longer_counts_words_or_the_lengths_given():
    pairs = [pair("one two three", "incomprehensibilities"), pair("one", "one two"), pair("a b", "c  d")]
    assert longer_wins(pairs) == [1.0, 0.0, 0.5]
    assert longer_wins(pairs, lengths=[(3, 9), (2, 2), (5, 4)]) == [0.0, 0.5, 1.0]
    with pytest.raises(DataError, match="got 1 for 3"):
        longer_wins(pairs, lengths=[(1, 2)])


def test_overlap_with_the_title_wins():
    pairs = [
        pair("my cat hates rain", "it rained"),
        pair("it rained", "my cat hates rain"),
        pair("rain", "cat"),  # one word of the title each
        pair("the cat", "the cat and a dog and a bird"),  # the same overlap, diluted: F1, not recall
    ]
    assert title_overlap_wins(pairs) == [1.0, 0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        (PROMPT, "my cat hates the rain"),
        ("TITLE:\n\nPOST: text", ""),
        ("\n  Storm hits coast \nIt was windy.", "Storm hits coast"),
        ("  \n ", ""),
    ],
)
def test_title_of_a_post(prompt, title):
    assert post_title(prompt) == title


def test_lead_is_paired_and_tested_on_the_pairs_that_only_one_of_the_two_orders_as_labelled():
    scores, other = [1.0] * 9 + [0.0] * 3 + [1.0, 0.0], [0.0] * 9 + [1.0] * 3 + [1.0, 0.0]
    found = lead(scores, other, seed=0)
    assert (found["value"], found["n"]) == (pytest.approx(6 / 14), 14)
    assert found["counts"] == {"wins": pytest.approx(9), "losses": pytest.approx(3), "n": 14}
    assert found["p_value"] == pytest.approx(mcnemar_test(9, 3))


def test_pairs_of_one_post_are_no_independent_pairs():
    """Five posts of four pairs: a rule right on whole posts is no surer than on five pairs."""
    posts = [post for post in "abcde" for _ in range(4)]
    right, wrong = [1.0] * 20, [float(post == "e") for post in posts]
    assert accuracy(wrong, seed=0, posts=posts)["ci95"][1] > accuracy([0.0, 0.0, 0.0, 0.0, 1.0], seed=0)["ci95"][1]
    assert lead(right, wrong, seed=0)["p_value"] < 0.001 < 0.1 < lead(right, wrong, seed=0, posts=posts)["p_value"]


def test_accuracy_is_the_mean_of_pair_scores():
    found = accuracy([1.0, 1.0, 0.0, 0.5, 1.0, 0.0], seed=0)
    assert (found["value"], found["n"]) == (pytest.approx(3.5 / 6), 6)
    # 10 of 10: Wilson's score interval begins at n / (n + z^2), z = 1.96 for 95 %.
    assert accuracy([1.0] * 10, seed=0)["ci95"] == [pytest.approx(10 / (10 + 1.959964**2)), 1.0]


def test_agreement_is_blind_to_who_is_right():
    assert agreement([1.0, 0.0, 1.0, 0.5, 0.5], [1.0, 0.0, 0.0, 1.0, 0.5]) == [1.0, 1.0, 0.0, 0.5, 1.0]
