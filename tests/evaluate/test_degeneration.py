import random

import pytest

from bench.data.prompts import cnn_dm_prompt, titled_prompt, tldr_prompt
from bench.evaluate.degeneration import (
    DETECTORS,
    Sampled,
    degeneration,
    longest_shared_run,
    repeated_share,
    shares_run,
)
from bench.evaluate.words import words

PROMPT = tldr_prompt(
    "pets",
    "My cat eats the neighbour's plants",
    "I moved in last year. My cat climbs over the wall every night. Now Mr. Hill wants money for his ferns.",
)
SUMMARY = "cat ruined a neighbour's ferns, he wants to be paid, should I?"


def found(completion, prompt=PROMPT, finished=True):
    """The names of the detectors that a completion sets off."""
    row = Sampled(prompt, completion, finished)
    return {name for name, detect in DETECTORS.items() if detect(row)}


def test_a_summary_is_no_degeneration():
    assert found(SUMMARY) == set()


@pytest.mark.parametrize("completion", ["", "  \n", "...", "🙂 !"])
def test_no_words_are_empty(completion):
    assert found(completion) == {"empty"}


@pytest.mark.parametrize(
    ("completion", "copied"),
    [
        ("My cat eats the neighbour's plants", True),
        ("my cat EATS the neighbour's plants!", True),
        ("cat eats the", True),  # a piece of it, three words
        ("my cat", False),  # two words are shared by chance
        ("My cat eats the neighbour's plants, again", True),  # 7 of 8 words
        ("My cat eats the neighbour's plants and I do not care", False),  # 7 of 12
    ],
)
def test_title_copying(completion, copied):
    assert (found(completion) == {"title_copy"}) is copied


@pytest.mark.parametrize(
    ("completion", "copied"),
    [
        ("I moved in last year.", True),
        ("moved in last year", False),  # four words
        ("so my cat climbs over the wall every night", True),  # 8 of 9 words
        ("in short my cat climbs over the wall", False),  # 6 of 8
        ("I moved in a year ago and my cat climbs over the wall at night", False),  # two short runs
    ],
)
def test_post_copying(completion, copied):
    assert (found(completion) == {"post_copy"}) is copied


def test_the_runs_in_a_post_do_not_come_from_the_title_or_the_cue():
    assert "post_copy" not in found("My cat eats the neighbour's plants")


def test_repetition():
    assert found("the cat the cat the cat the cat") == {"repetition"}
    assert found("no no no no no") == {"repetition"}
    # "I am not sure" twice in 14 words: one of 11 4-grams is repeated.
    assert found("I am not sure about him and I am not sure about her either way") == set()


@pytest.mark.parametrize(
    ("tokens", "share"),
    [("a b c d", 0), ("a b c", 0), ("a a a a a a", 1 - 1 / 3), ("a b c d a b c d", 1 - 4 / 5)],
)
def test_share_of_repeated_4_grams(tokens, share):
    assert repeated_share(tokens.split()) == pytest.approx(share)


@pytest.mark.parametrize(
    ("prompt", "completion", "echoes"),
    [
        (PROMPT, "cat trouble SUBREDDIT: r/cats", True),
        (PROMPT, "cat trouble TL;DR: it is bad", True),
        (PROMPT, "cat trouble POST: hello", True),
        (PROMPT, "cat trouble, see my post", False),
        (titled_prompt("t", "some post"), "SUBREDDIT: r/x", False),  # not in this prompt's format
        (cnn_dm_prompt("Rain fell."), "weather Article: it rained", True),
        (tldr_prompt("x", "t", "Hello.\nEdit: thanks"), "thanks. Edit: more", False),  # the post's own word
    ],
)
def test_prompt_echo(prompt, completion, echoes):
    assert ("prompt_echo" in found(completion, prompt)) is echoes


def test_no_eos():
    assert found(SUMMARY, finished=False) == {"no_eos"}


def test_shares_are_over_the_rows_a_detector_applies_to():
    rows = [
        Sampled(PROMPT, "My cat eats the neighbour's plants", True),
        Sampled(PROMPT, "", False),
        Sampled(PROMPT, SUMMARY, True),
        Sampled(cnn_dm_prompt("Rain fell."), SUMMARY, None),
    ]
    shares = {name: (share["value"], share["n"]) for name, share in degeneration(rows, seed=0).items()}
    assert shares == {
        "empty": (1 / 4, 4),
        "title_copy": (pytest.approx(1 / 3), 3),  # an article has no title
        "post_copy": (0, 4),
        "repetition": (0, 4),
        "prompt_echo": (0, 4),
        "no_eos": (pytest.approx(1 / 3), 3),  # a human summary has no EOS
        "any": (2 / 4, 4),
    }
    human = degeneration([Sampled(cnn_dm_prompt("Rain fell."), SUMMARY)], seed=0)
    assert human["no_eos"] == human["title_copy"] == {"value": None, "ci95": None, "n": 0}
    low, high = human["any"]["ci95"]
    assert low == 0 < high < 1


def test_words_and_runs():
    assert words("It's  r/AskReddit: 3 cats, naïve!") == ("it", "s", "r", "askreddit", "3", "cats", "naïve")
    assert longest_shared_run("a b c d x".split(), "z b c d a b".split()) == 3
    assert longest_shared_run([], ["a"]) == 0


def test_runs_that_are_long_enough():
    rng, found = random.Random(0), []
    for _ in range(500):
        a, b = (rng.choices("a b c".split(), k=rng.randint(0, 12)) for _ in range(2))
        for length in range(1, 13):
            found.append(shares_run(a, b, length))
            assert found[-1] is (longest_shared_run(a, b) >= length)
    assert 500 < sum(found) < 5500
    assert not shares_run(["a"], ["ab", "ba"], 1)  # words, not letters
