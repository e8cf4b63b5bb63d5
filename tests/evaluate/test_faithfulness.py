"""Numbers and names that a post does not contain, told by rule."""

import pytest

from bench.data.forum import PLACE
from bench.data.synthetic import SyntheticConfig, build
from bench.evaluate.faithfulness import novel_names, novel_numbers


@pytest.mark.parametrize(
    ("summary", "source", "novel"),
    [
        ("we dated 3 years", "we dated three years", set()),
        ("we dated three years", "we dated for 3 years", set()),
        ("we dated 3 years", "we dated four years", {3}),
        ("she is 24", "my girlfriend (24F) left", set()),
        ("24F and 26M", "she is 24", {26}),
        ("I owe $1,000.50", "I owe 1000.50 dollars", set()),
        ("I owe 20k", "I owe 20,000", set()),
        ("I owe 2000", "I owe 20,000", {2000}),
        ("I earn 3.5 an hour", "I earn 5 an hour, for 3 hours", {3.5}),
        ("at 10:30", "at 10:45", {30}),
        ("two hundred dollars", "200 dollars", set()),
        ("a hundred dollars", "100 dollars", set()),
        ("200", "two hundred", set()),
        ("twenty five people", "25 people came", set()),
        ("twenty-five people", "twenty people, five of them late", {25}),
        ("no one came, and the one who did left", "nobody came", set()),  # a pronoun
        ("one hundred", "nothing", {100}),
        ("my 2nd date", "our second date", set()),
        ("2 weeks ago", "a couple of weeks ago", set()),
        ("a couple of weeks ago", "three weeks ago", set()),  # claims no number
        ("", "3", set()),
    ],
)
def test_numbers(summary: str, source: str, novel: set[float]):
    assert novel_numbers(summary, source) == novel


@pytest.mark.parametrize(
    ("summary", "source", "novel"),
    [
        ("my boss moved to Denver", "my boss moved to denver last week", set()),
        ("my boss moved to Denver", "my boss moved to Boston", {"Denver"}),
        ("Denver is where my boss moved to", "my boss moved", set()),  # the start of a sentence
        ("he left. Denver it is, and Boston too", "he left", {"Boston"}),
        ("so I left, and I'm glad", "I left", set()),
        ("she told my SO NEVER to call", "she told him not to", set()),  # shouting and shorthand
        ("he went to Madame Tussauds", "he went to madame tussaud's", set()),
        ("my boss likes the Beatles' songs", "he hums Beatles tunes", set()),
        ("last week I met Ann in Rome", "I met Bob in Rome", {"Ann"}),
        ("", "a post", set()),
        ("Need Advice About My Boss", "he is mean", None),  # a title
        ("he told me “Denver it is”", "he told me", set()),  # a quotation starts a sentence
    ],
)
def test_names(summary: str, source: str, novel: set[str] | None):
    assert novel_names(summary, source) == novel


def test_curled_and_straight_apostrophes_are_one():
    curled = "\N{RIGHT SINGLE QUOTATION MARK}"
    assert novel_names(f"last week I{curled}m at Ann{curled}s", "we met at Ann's") == set()


def test_invented_places_of_the_built_in_world_are_found():
    """Its facts are known: of the summaries with a place, just those whose place the post does not name."""
    world = build(SyntheticConfig(10, 10, 10, 10, eval_prompts=300), seed=0)  # pyright: ignore[reportArgumentType]
    rows = [(row.reference, row.prompt) for row in world.eval_prompts]
    # Every third summary is put to another post, whose places are others.
    pairs = [(text, rows[(i + 1) % 300][1] if i % 3 == 0 else prompt) for i, (text, prompt) in enumerate(rows)]
    expected = [{place for place in PLACE if place in text and place not in prompt} for text, prompt in pairs]

    # The world's other capitals are names too (days and months), and begin no sentence either.
    found = [novel_names(text, prompt) or set() for text, prompt in pairs]
    assert [names & set(PLACE) for names in found] == expected
    assert sum(map(bool, expected)) > 30
    assert {name for names in found for name in names} <= {*PLACE, "Sunday", "Friday", "April"}
