import random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from bench.data.prompts import (
    cnn_dm_prompt,
    completion_text,
    split_prompt,
    titled_prompt,
    tldr_prompt,
    truncate_post,
    truncate_prompts,
)
from bench.errors import DataError
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair

WORDS = [
    "the",
    "a",
    "my",
    "landlord",
    "unbelievable",
    "café",
    "naïve",
    "日本語",
    "🙂",
    "rent:pay",
    "aaaaaaaa",
]


def count_words(text: str) -> int:
    return len(text.split())


def plain_rule(prompt: str, max_tokens: int, count_tokens) -> str:
    """The rule of Huang et al. 2024 as they wrote it: one cut, one count."""
    head, post, tail = split_prompt(prompt)
    while count_tokens(head + post + tail) > max_tokens:
        assert post
        post = post[: post.rindex("\n")] if "\n" in post else post[:-1]
    return head + post + tail


@pytest.fixture(scope="module")
def count_bpe():
    """A small byte-level BPE, whose counts are not monotone in the length of the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = [" ".join(random.Random(i).choices(WORDS, k=30)) + "\n\nTL;DR: POST: TITLE:" for i in range(40)]
    tokenizer.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    return lambda text: len(tokenizer.encode(text).ids)


def random_post(rng: random.Random) -> str:
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(0, 40))) for _ in range(rng.randint(1, 12))]
    return rng.choice(["\n", "\n\n", " \n"]).join(lines)


def test_tldr_format():
    prompt = tldr_prompt("pets", " My cat ", "It sings.\n")
    assert prompt == "SUBREDDIT: r/pets\n\nTITLE: My cat\n\nPOST: It sings.\n\nTL;DR:"
    assert titled_prompt("My cat", "It sings.") == "TITLE: My cat\n\nPOST: It sings.\n\nTL;DR:"
    assert cnn_dm_prompt("Rain fell.") == "Article:\nRain fell.\n\nTL;DR:"


def test_a_completion_starts_with_exactly_one_space():
    assert completion_text("It sings.") == completion_text("  It sings.\n") == " It sings."


@pytest.mark.parametrize(
    ("prompt", "post", "tail"),
    [
        (
            tldr_prompt("pets", "POST: my cat", "It sings.\n\nPOST: again"),
            "It sings.\n\nPOST: again",
            "\n\nTL;DR:",
        ),
        (cnn_dm_prompt("Rain.\n\nSun."), "Rain.\n\nSun.", "\n\nTL;DR:"),
        ("POST: It sings.\nSummary: ", "It sings.", "\nSummary: "),
        ("POST: It sings.", "It sings.", ""),
        ("Summarize: it sings.", "", ""),
    ],
)
def test_split_prompt_finds_the_post(prompt, post, tail):
    parts = split_prompt(prompt)
    assert (parts.post, parts.tail) == (post, tail)
    assert "".join(parts) == prompt


def test_a_prompt_that_fits_is_left_alone():
    prompt = tldr_prompt("pets", "cat", "one\ntwo")
    assert truncate_post(prompt, count_words(prompt), count_words) == (prompt, False)


def test_the_post_loses_its_last_lines_and_then_characters():
    prompt = tldr_prompt("pets", "cat", "one two\nthree four\nfive")
    # words: SUBREDDIT: r/pets TITLE: cat POST: ... TL;DR: = 6 besides the post
    assert split_prompt(truncate_post(prompt, 6 + 4, count_words)[0]).post == "one two\nthree four"
    assert split_prompt(truncate_post(prompt, 6 + 3, count_words)[0]).post == "one two"
    cut, was_cut = truncate_post(prompt, 6 + 1, count_words)
    assert was_cut and split_prompt(cut).post == "one "  # "one t" still counts two words
    assert cut.endswith("\n\nTL;DR:")


@pytest.mark.parametrize("seed", range(25))
def test_truncation_equals_the_plain_rule(seed, count_bpe):
    rng = random.Random(seed)
    prompt = tldr_prompt("pets", "my cat", random_post(rng))
    shortest = count_bpe(tldr_prompt("pets", "my cat", ""))
    for max_tokens in rng.choices(range(shortest, count_bpe(prompt) + 1), k=6):
        assert truncate_post(prompt, max_tokens, count_bpe)[0] == plain_rule(prompt, max_tokens, count_bpe)


def test_a_long_post_takes_few_tokenizations(count_bpe):
    calls = 0

    def count(text: str) -> int:
        nonlocal calls
        calls += 1
        return count_bpe(text)

    prompt = tldr_prompt("pets", "my cat", " ".join(random.Random(0).choices(WORDS, k=4000)))
    cut, _ = truncate_post(prompt, 300, count)
    assert len(prompt) - len(cut) > 20_000  # the plain rule takes one tokenization for each of these characters
    assert calls < 250


@pytest.mark.parametrize(
    "prompt",
    [tldr_prompt("pets", "word " * 30, "short"), "text\n" + "word " * 30 + ":", "text\n\n" + "word " * 30 + "TL;DR:"],
)
def test_a_prompt_that_cannot_be_cut_is_refused(prompt):
    with pytest.raises(
        DataError, match=r"prompt 'p7' is longer .*: \d+ tokens \(at most 20\).*max_prompt_tokens"
    ) as error:
        truncate_post(prompt, 20, count_words, prompt_id="p7")
    assert f"{count_words(prompt)} tokens" in str(error.value)


def test_truncate_prompts_cuts_every_record_and_counts_distinct_prompts():
    short, long = tldr_prompt("pets", "cat", "one"), tldr_prompt("pets", "cat", "one\ntwo")
    data = ComparisonData(
        demonstrations={"train": [Demonstration("d", short, "x")], "validation": []},
        preferences={"train": [PreferencePair("a", long, "x", "y"), PreferencePair("b", long, "x", "z")]},
        eval_prompts=[EvalPrompt("e", long.replace("two", "three"), "x")],
        source={},
    )
    cut, n_cut = truncate_prompts(data, count_words(short), count_words)
    records = [*cut.demonstrations["train"], *cut.preferences["train"], *cut.eval_prompts]
    assert [record.prompt for record in records] == [short] * 4
    assert [record.id for record in records] == ["d", "a", "b", "e"]
    assert n_cut == 2


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("one two three four five", "one two three"),
        ("A title\n\none two three\n\nTL;DR:", "A title\n\nTL;DR:"),
        ("one two three four five\n\nSummarise this:\n", "one\n\nSummarise this:\n"),
    ],
)
def test_a_text_that_marks_no_post_loses_its_last_words(prompt: str, expected: str):
    assert truncate_post(prompt, 3, count_words) == (expected, True)
