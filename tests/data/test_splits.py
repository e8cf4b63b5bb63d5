import math
from dataclasses import replace

import pytest

from bench.data.prompts import cnn_dm_prompt, tldr_prompt
from bench.data.splits import (
    SplitLimits,
    assign_split,
    carve_judge,
    check_no_leak,
    drop_leaks,
    one_per_post,
    post_key,
    shared_posts,
    split_hash,
    stable_fraction,
    subsample,
)
from bench.errors import ConfigError, DataError
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair


def prompt(post: str) -> str:
    return tldr_prompt("pets", "title of " + post, post)


def pairs(prefix: str, posts: range) -> list[PreferencePair]:
    return [PreferencePair(f"{prefix}{i}", prompt(f"post {i}"), "good", "bad") for i in posts]


def demonstrations(prefix: str, posts: range) -> list[Demonstration]:
    return [Demonstration(f"{prefix}{i}", prompt(f"post {i}"), "good") for i in posts]


@pytest.fixture
def data() -> ComparisonData:
    return ComparisonData(
        demonstrations={
            "train": demonstrations("d", range(0, 60)),
            "validation": demonstrations("e", range(100, 105)),
        },
        preferences={
            "train": pairs("p", range(30, 90)),
            "judge": pairs("j", range(200, 210)),
            "validation": pairs("v", range(103, 110)),
        },
        eval_prompts=[EvalPrompt(f"t{i}", prompt(f"post {i}"), "good") for i in range(300, 320)],
        source={},
    )


def test_post_key_is_the_posts_whatever_its_title_case_and_spacing():
    key = post_key(tldr_prompt("pets", "one", "My cat\nsings."))
    assert key == post_key(tldr_prompt("cats", "two", "my  CAT sings."))
    assert key != post_key(tldr_prompt("pets", "one", "My cat sings"))
    assert post_key("Summarize: one") != post_key("Summarize: two")
    assert post_key(tldr_prompt("pets", "one", "")) != post_key(tldr_prompt("pets", "two", ""))


def test_stable_fraction_is_uniform_and_depends_on_key_and_seed():
    draws = [stable_fraction(f"key {i}", 0) for i in range(2000)]
    assert all(0 <= draw < 1 for draw in draws)
    for threshold in (0.1, 0.5, 0.9):  # within 4 standard deviations of a binomial
        share = sum(draw < threshold for draw in draws) / len(draws)
        assert abs(share - threshold) < 4 * math.sqrt(threshold * (1 - threshold) / len(draws))
    assert stable_fraction("key 0", 0) == draws[0] != stable_fraction("key 0", 1)


def test_rows_about_one_post_fall_into_one_split():
    posts = [f"post {i}" for i in range(300)]
    assigned = [assign_split(prompt(post), 0.2, 0.3, seed=0) for post in posts]
    assert assigned == [assign_split(prompt(post.upper()), 0.2, 0.3, seed=0) for post in posts]
    for split, share in {"train": 0.5, "validation": 0.2, "test": 0.3}.items():
        assert abs(assigned.count(split) / 300 - share) < 4 * math.sqrt(share * (1 - share) / 300)


def test_posts_shared_inside_one_split_are_no_leak(data):
    check_no_leak(data)  # posts 30-59 are in both kinds of training data, 103 and 104 in both kinds of validation


@pytest.mark.parametrize(
    ("post", "message"),
    [
        ("post 31", r"train \(demonstration 'd31'\) and judge \(pair 'leak'\)"),
        ("POST  301", r"judge \(pair 'leak'\) and test \(prompt 't301'\)"),
        ("post 104", r"validation \(demonstration 'e104'\) and judge \(pair 'leak'\)"),
    ],
)
def test_a_post_in_two_splits_is_refused_with_both_ids(data, post, message):
    leaky = replace(
        data, preferences={**data.preferences, "judge": [PreferencePair("leak", prompt(post), "good", "bad")]}
    )
    with pytest.raises(DataError, match=message):
        check_no_leak(leaky)


def test_drop_leaks_keeps_the_held_out_row(data):
    leaky = replace(
        data,
        demonstrations={**data.demonstrations, "train": demonstrations("d", range(295, 305))},
        preferences={**data.preferences, "validation": pairs("v", range(85, 95))},
    )
    clean = drop_leaks(leaky)
    check_no_leak(clean)
    assert [d.id for d in clean.demonstrations["train"]] == [f"d{i}" for i in range(295, 300)]
    assert [p.id for p in clean.preferences["train"]] == [f"p{i}" for i in range(30, 85)]
    assert clean.preferences["validation"] == leaky.preferences["validation"]
    assert clean.eval_prompts == leaky.eval_prompts
    assert clean.dropped == {
        "train rows whose post is in test": 5,
        "train rows whose post is in validation": 5,
    }


def test_the_judge_gets_posts_that_no_arm_sees(data):
    carved = carve_judge(data, 0.3, seed=0)
    train, judge = carved.preferences["train"], carved.preferences["judge"]
    assert sorted([*train, *judge], key=str) == sorted(data.preferences["train"], key=str)
    assert 8 <= len(judge) <= 28  # 60 posts, 18 expected, sd 3.5
    check_no_leak(carved)
    judge_posts = {pair.prompt for pair in judge}
    assert [d for d in data.demonstrations["train"] if d.prompt not in judge_posts] == carved.demonstrations["train"]
    n_dropped = 60 - len(carved.demonstrations["train"])
    assert n_dropped > 0 and carved.dropped == {"demonstrations of the judge's posts": n_dropped}
    assert carve_judge(data, 0.0, seed=0).preferences["judge"] == []


def test_one_per_post_keeps_the_first_and_refuses_equal_ids():
    first, again = EvalPrompt("a", prompt("one"), "x"), EvalPrompt("b", prompt("ONE"), "y")
    other = EvalPrompt("a", prompt("two"), "z")
    assert one_per_post([first, again]) == [first]
    with pytest.raises(DataError, match=r"two test posts have the id 'a'.*data\.columns\.id"):
        one_per_post([first, other])


def test_subsample_limits_every_split_and_nests(data):
    small = subsample(data, SplitLimits(10, 9, 3, 2, 5), seed=0)
    large = subsample(data, SplitLimits(20, 30, 6, 4, 10), seed=0)
    sizes = [
        [
            *(len(rows) for rows in part.demonstrations.values()),
            *(len(rows) for rows in part.preferences.values()),
            len(part.eval_prompts),
        ]
        for part in (small, large)
    ]
    assert sizes == [[10, 2, 9, 3, 2, 5], [20, 4, 30, 6, 4, 10]]
    for kind in ("demonstrations", "preferences"):
        for split, rows in getattr(small, kind).items():
            more, everything = getattr(large, kind)[split], getattr(data, kind)[split]
            assert [row for row in more if row in rows] == rows
            assert [row for row in everything if row in more] == more
    assert small == subsample(data, SplitLimits(10, 9, 3, 2, 5), seed=0)
    assert small.eval_prompts != subsample(data, SplitLimits(10, 9, 3, 2, 5), seed=1).eval_prompts
    assert subsample(data, SplitLimits(), seed=0) == data


def test_negative_limits_are_refused():
    with pytest.raises(ConfigError, match=r"budget\.pairs must be at least 0, got -1"):
        SplitLimits(pairs=-1)


def test_split_hash_sees_every_text_and_id_and_split(data):
    pair, demonstration, test = (
        data.preferences["train"][0],
        data.demonstrations["train"][0],
        data.eval_prompts[0],
    )
    others = [
        replace(data, preferences={**data.preferences, "train": [replace(pair, chosen="other")]}),
        replace(data, preferences={**data.preferences, "train": [replace(pair, id="other")]}),
        replace(data, preferences={**data.preferences, "train": [pair]}),
        replace(data, preferences={**data.preferences, "judge": [pair]}),
        replace(data, demonstrations={**data.demonstrations, "train": [replace(demonstration, completion="x")]}),
        replace(data, eval_prompts=[replace(test, reference="other")]),
        replace(data, eval_prompts=data.eval_prompts[::-1]),
    ]
    hashes = [split_hash(data), *(split_hash(other) for other in others)]
    assert len(set(hashes)) == len(hashes)
    reordered = dict(reversed(data.preferences.items()))
    assert split_hash(replace(data, preferences=reordered, source={"name": "elsewhere"})) == split_hash(data)


def test_a_post_that_was_cut_on_either_side_is_the_same_post():
    words = [f"word{i}" for i in range(60)]
    whole, cut, in_a_word = " ".join(words), " ".join(words[:30]), " ".join(words[:30])[:-1]
    trained = [tldr_prompt("pets", "a", cut), tldr_prompt("pets", "b", "My cat."), "A text.\n\nSummary:"]
    asked = {
        "whole": cnn_dm_prompt(whole.upper()),
        "shorter": cnn_dm_prompt(" ".join(words[:25])),
        "in a word": cnn_dm_prompt(in_a_word),
        "equal": cnn_dm_prompt("my  cat."),
        "unmarked": cnn_dm_prompt("a text."),
        "begins alike": cnn_dm_prompt("My cat. It sleeps."),  # two words are no post that was cut
        "goes on otherwise": cnn_dm_prompt(" ".join([*words[:25], "otherwise"])),
        "other": cnn_dm_prompt(" ".join(reversed(words))),
    }
    assert shared_posts(asked, trained) == ["whole", "shorter", "in a word", "equal", "unmarked"]
