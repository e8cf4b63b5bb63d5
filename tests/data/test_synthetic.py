"""The built-in world: its gold reward by hand, its preferences against Bradley-Terry, and that it is no toy."""

import itertools
import math
from dataclasses import replace
from statistics import mean

import pytest

from bench.data import forum, news
from bench.data.forum import compose
from bench.data.language import Facts, normalise
from bench.data.synthetic import (
    FREE_WORDS,
    INVENTED_COST,
    LANGUAGES,
    WEIGHTS,
    WORD_COST,
    SyntheticConfig,
    World,
    build,
    gold_reward,
)
from bench.errors import ConfigError

FACTS = Facts(
    values={
        "who": "sister",
        "problem": "broke my laptop",
        "event": "wedding",
        "place": "Denver",
        "time": "last week",
        "question": "should I move out",
    },
    distractors={"who": "boss", "place": "Boston", "time": "on Friday"},
)
SMALL = SyntheticConfig(demonstrations=40, preference_pairs=60, judge_pairs=30, validation_pairs=30, eval_prompts=100)


@pytest.fixture(scope="module")
def pairs():
    """(gold of chosen - gold of rejected, words of chosen - words of rejected) of many pairs, and their world."""
    world = World(SyntheticConfig(), seed=0)
    made = [(post, world.preference(post)) for post in world.posts("preference", 3000)]
    return [
        (
            gold_reward(post.facts, pair.chosen) - gold_reward(post.facts, pair.rejected),
            len(pair.chosen.split()) - len(pair.rejected.split()),
        )
        for post, pair in made
        if pair is not None
    ], world


def test_the_empty_summary_has_0_and_the_best_1():
    assert gold_reward(FACTS, "") == 0
    best = "My sister broke my laptop at the wedding in Denver last week, should I move out?"
    assert compose(FACTS.values) == best.replace("My", "my")
    assert gold_reward(FACTS, best) == pytest.approx(1, abs=1e-9)


def test_covered_facts_count_once_whatever_their_case():
    twice = "My SISTER broke my laptop. Sister!"  # "my" and the second "sister" are within the free words
    assert gold_reward(FACTS, twice) == pytest.approx(WEIGHTS["who"] + WEIGHTS["problem"])


def test_a_fact_is_a_whole_phrase():
    # "sisters", "broke the laptop" and "last" are no facts: six plain words, within the free ones
    assert gold_reward(FACTS, "sisters broke the laptop last summer") == 0


def test_a_distractor_costs_as_much_as_any_invented_value():
    told = WEIGHTS["who"] + WEIGHTS["problem"]
    assert gold_reward(FACTS, "my sister broke my laptop in Boston") == pytest.approx(told - INVENTED_COST)
    assert gold_reward(FACTS, "my sister broke my laptop in Omaha") == pytest.approx(told - INVENTED_COST)


def test_the_right_and_a_wrong_value_of_one_slot_both_count():
    summary = "my sister or my boss broke my laptop on Friday"  # sister, laptop; boss, on Friday
    assert gold_reward(FACTS, summary) == pytest.approx(WEIGHTS["who"] + WEIGHTS["problem"] - 2 * INVENTED_COST)


def test_words_beyond_the_facts_and_the_free_ones_cost():
    """6 words say the two facts of the summary; the wrong value's words count as padding like any others."""
    facts, extra = "last week should I move out", "word " * (FREE_WORDS + 3)
    covered = WEIGHTS["time"] + WEIGHTS["question"]
    assert gold_reward(FACTS, facts + " word" * FREE_WORDS) == pytest.approx(covered)
    assert gold_reward(FACTS, f"{extra}{facts}") == pytest.approx(covered - 3 * WORD_COST)
    assert gold_reward(FACTS, f"{extra}{facts} Boston") == pytest.approx(covered - INVENTED_COST - 4 * WORD_COST)


@pytest.mark.parametrize("world", [forum, news])
def test_no_value_of_the_lexicon_hides_in_another_or_in_the_padding(world):
    phrases = [(value, f" {normalise(value)} ") for values in world.LEXICON.values() for value in values]
    for (first, one), (second, other) in itertools.permutations(phrases, 2):
        assert one not in other, f"{first!r} stands in {second!r}"
    for text in [*world.PADDING, *world.FILLER]:
        for value, phrase in phrases:
            assert phrase not in f" {normalise(text)} ", f"{value!r} stands in {text!r}"


@pytest.mark.parametrize("language", LANGUAGES.values())
def test_weights_add_up_to_1_over_the_slots(language):
    assert WEIGHTS.keys() == language.lexicon.keys()
    assert sum(WEIGHTS.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_post_says_its_facts_and_its_distractors(name):
    world = World(replace(SMALL, language=name), seed=0)
    for post in world.posts("any", 200):
        text = f" {normalise(post.prompt)} "
        for value in post.facts.values.values():
            assert f" {normalise(value)} " in text
        for slot, value in post.facts.distractors.items():
            assert value != post.facts.values[slot] and value in world.language.lexicon[slot]
        assert any(f" {normalise(value)} " in text for value in post.facts.distractors.values())
        assert world.gold(post.facts, world.language.compose(post.facts.values)) == pytest.approx(1, abs=1e-9)


def test_the_news_are_another_world():
    """Most facts are new, and texts are longer."""
    values = {name: {v for slot in language.lexicon.values() for v in slot} for name, language in LANGUAGES.items()}
    assert len(values["news"] & values["forum"]) < len(values["news"]) / 5
    words = {
        name: mean(len(p.prompt.split()) for p in World(replace(SMALL, language=name), seed=0).posts("any", 200))
        for name in LANGUAGES
    }
    assert words["news"] > 1.15 * words["forum"]


def parts(data):
    """Everything of the data but the gold reward, which is a function."""
    return (
        data.demonstrations,
        data.preferences,
        data.eval_prompts,
        data.source,
        data.trivial_policies,
        data.dropped,
    )


def test_the_world_is_a_function_of_the_seed():
    first, again, other = build(SMALL, seed=0), build(SMALL, seed=0), build(SMALL, seed=1)
    assert parts(first) == parts(again)
    assert first.eval_prompts != other.eval_prompts and first.preferences != other.preferences
    example = first.eval_prompts[0]
    assert first.gold([(example.id, example.reference)]) == again.gold([(example.id, example.reference)])


def test_a_larger_world_begins_with_the_smaller_one():
    world = World(SMALL, seed=0)
    assert world.posts("preference", 50)[:20] == world.posts("preference", 20)


def test_no_post_is_in_two_splits():
    data = build(SMALL, seed=0)
    splits = [
        *data.demonstrations.values(),
        *data.preferences.values(),
        data.eval_prompts,
    ]
    posts = [{row.prompt.split("POST:")[1] for row in split} for split in splits]
    assert len(posts) == 6 and all(posts)
    for one, other in itertools.combinations(posts, 2):
        assert not one & other


def test_the_sizes_are_those_of_the_config():
    data = build(SMALL, seed=0)
    assert [len(data.demonstrations["train"]), len(data.eval_prompts)] == [40, 100]
    kept = sum(map(len, data.preferences.values()))
    assert kept + data.dropped.get("identical_pairs", 0) == 60 + 30 + 30


def test_the_better_summary_is_chosen_as_often_as_bradley_terry_says(pairs):
    margins, world = pairs
    noise = world.config.preference_noise
    edges = [0.0, 0.5 * noise, noise, 2 * noise, 4 * noise, math.inf]
    for low, high in itertools.pairwise(edges):
        inside = [margin for margin, _ in margins if low < abs(margin) <= high]
        n = len(inside)
        assert n > 100
        share = sum(margin > 0 for margin in inside) / n
        expected = mean(1 / (1 + math.exp(-abs(margin) / noise)) for margin in inside)
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))


def test_noise_decides_how_often_the_better_one_is_chosen():
    shares = []
    for noise in (0.01, 10.0):
        world = World(SyntheticConfig(preference_noise=noise), seed=0)
        made = [(post, world.preference(post)) for post in world.posts("preference", 400)]
        margins = [
            gold_reward(post.facts, p.chosen) - gold_reward(post.facts, p.rejected) for post, p in made if p is not None
        ]
        decided = [margin for margin in margins if abs(margin) > 0.05]
        shares.append(sum(margin > 0 for margin in decided) / len(decided))
    # at 0.01 a margin of 0.05 is five scales: 1 / (1 + e^-5) = 0.993; at 10 a coin flip, sd 0.5 / sqrt(n) < 0.03
    assert shares[0] > 0.98
    assert shares[1] == pytest.approx(0.5, abs=0.12)


def test_the_longer_one_wins_at_most_65_percent_of_the_pairs(pairs):
    differences = [words for _, words in pairs[0] if words != 0]
    assert 0.5 < sum(words > 0 for words in differences) / len(differences) <= 0.65


def test_trivial_policies_score_below_the_writers():
    data = build(SMALL, seed=0)
    gold = {name: mean(data.gold([*summaries.items()])) for name, summaries in data.trivial_policies.items()}
    writers = mean(data.gold([(p.id, p.reference) for p in data.eval_prompts]))
    assert gold.pop("best") == pytest.approx(1, abs=1e-9)
    assert gold.pop("empty") == 0
    assert set(gold) == {"title", "first_sentence", "longest"}
    assert max(*gold.values(), 0.0) < writers < 1


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("preference_pairs", 0, "at least 1"),
        ("eval_prompts", -3, "at least 1"),
        ("preference_noise", 0, "above 0"),
    ],
)
def test_a_value_out_of_range_is_named(key, value, rule):
    with pytest.raises(ConfigError, match=rf"^data\.{key} must be {rule}, got {value}$"):
        SyntheticConfig(**{key: value})
