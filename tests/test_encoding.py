"""Texts as token ids."""

import copy
import random

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from bench.encoding import (
    _CUT_BEHIND_NEWLINES,
    _cuts_behind_newlines,
    _end,
    completion_lengths,
    encode,
    merges,
    rows_of,
)
from bench.records import Rows


def test_a_row_is_prompt_space_summary_eos(tokenizer):
    for prompt, summary in (("POST: the cat sat. TL;DR:", "the cat slept."), ("TL;DR:", "cake")):
        ((prompt_ids, completion_ids),) = encode(tokenizer, prompt, f" {summary}  ")
        assert prompt_ids == tokenizer(prompt).input_ids
        assert completion_ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode([*prompt_ids, *completion_ids[:-1]]) == f"{prompt} {summary}"


def test_an_empty_summary_is_eos_alone(tokenizer):
    assert encode(tokenizer, "TL;DR:", "") == [(tokenizer("TL;DR:").input_ids, [tokenizer.eos_token_id])]


class Merging:
    """Characters, but for "a b", which is one token: the prompt's last token merges into it."""

    eos_token, eos_token_id = "$", 0

    def __call__(self, text: str, add_special_tokens: bool = True):
        ids = [ord(c) for c in text.replace("a b", "B")]
        return type("Encoding", (), {"input_ids": [1, *ids] if add_special_tokens else ids})()


def test_where_a_prompt_would_merge_into_a_summary_both_are_tokenised_alone():
    """A policy is prompted with "za", so the ids of "za" are what every summary stands behind."""
    prompt = [1, ord("z"), ord("a")]

    assert merges(Merging(), "za", "b") and not merges(Merging(), "za", "x")  # type: ignore[arg-type]
    b, x = encode(Merging(), "za", "b", "x")  # type: ignore[arg-type]

    assert b == (prompt, [ord(" "), ord("b"), 0]) and x == (prompt, [ord(" "), ord("x"), 0])


def test_lengths_of_many_are_those_of_each(tokenizer, monkeypatch):
    monkeypatch.setattr("bench.encoding._AT_ONCE", 2)
    prompts = ["POST: the cat sat. TL;DR:", "TL;DR:", "POST: a dog ran.", "POST: cake", ""]
    summaries = ["the cat slept.", "", f" a dog {tokenizer.eos_token}", "the ball was lost in the river", "cake"]
    each = [len(encode(tokenizer, *pair)[0][1]) for pair in zip(prompts, summaries, strict=True)]
    assert completion_lengths(tokenizer, prompts, summaries) == each
    assert each[1] == 1 and each[3] > each[4]


GPT_2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
LLAMA_3, QWEN = (
    pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, True, False)]
    )
    for pattern in _CUT_BEHIND_NEWLINES
)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT_2])
ODD = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(r"\s*\S+"), "isolated"), pre_tokenizers.ByteLevel(False, True, False)]
)
PARTS = [
    "the cat",
    "\n",
    "\n\n",
    " ",
    "\t",
    "TL;DR:",
    "'s",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "12",
    "猫",
    "?!",
    "\r\n",
    "x" * 9,
]


@pytest.mark.parametrize(
    ("kind", "known"),
    [(GPT_2, True), (LLAMA_3, True), (QWEN, True), (DIGITS, True), (ODD, False), (pre_tokenizers.Metaspace(), False)],
)
@pytest.mark.parametrize("normalizer", [None, normalizers.NFC()])
def test_ids_behind_the_last_line_are_those_behind_the_whole_prompt(kind, known: bool, normalizer, monkeypatch):
    """Of 400 prompts and summaries that are thrown together, by tokenizers that learnt from such."""
    rng = random.Random(0)
    texts = ["".join(rng.choices(PARTS, k=12)) for _ in range(1200)]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.normalizer = kind, normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    assert _cuts_behind_newlines(tokenizer, len(tokenizer)) == known
    pairs = [(f"{post}\n{end}", summary) for post, end, summary in zip(*(iter(texts),) * 3, strict=True)]
    shortened = sum(_end(tokenizer, prompt) != prompt for prompt, _ in pairs)
    assert shortened > 50 if known else shortened == 0
    found = [(encode(tokenizer, *pair), merges(tokenizer, *pair)) for pair in pairs]
    lengths = completion_lengths(tokenizer, *map(list, zip(*pairs, strict=True)))

    monkeypatch.setattr("bench.encoding._end", lambda tokenizer, prompt: prompt)
    assert found == [(encode(tokenizer, *pair), merges(tokenizer, *pair)) for pair in pairs]
    assert lengths == [len(behind) for (((_, behind),), _) in found]


@pytest.mark.parametrize(
    "token", [AddedToken("a\nb"), AddedToken("<mask>", lstrip=True), AddedToken("<s>", rstrip=True)]
)
def test_a_token_that_may_reach_over_a_newline_is_known(tokenizer, token: AddedToken):
    with_it = copy.deepcopy(tokenizer)
    assert _end(with_it, "POST\nTL;DR:") == "TL;DR:"
    with_it.add_tokens([token])
    assert _end(with_it, "POST\nTL;DR:") == "POST\nTL;DR:"


def test_an_eos_that_is_written_out_is_the_eos(tokenizer):
    eos = tokenizer.eos_token
    plain = encode(tokenizer, "TL;DR:", "cake")

    for text in (f"cake{eos}", f" cake {eos} ", f"cake{eos}{eos}"):
        assert encode(tokenizer, "TL;DR:", text) == plain
    assert encode(tokenizer, "TL;DR:", eos) == encode(tokenizer, "TL;DR:", "")


def test_a_tokenizer_that_puts_bos_before_texts_puts_it_before_the_prompt_alone(tokenizer):
    with_bos = copy.deepcopy(tokenizer)
    with_bos.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|pad|>:0 $A:0", special_tokens=[("<|pad|>", 0)]
    )
    ((prompt, completion),) = encode(tokenizer, "TL;DR:", "cake")

    assert encode(with_bos, "TL;DR:", "cake") == [([0, *prompt], completion)]


def test_rows_are_right_padded_and_know_their_parts():
    rows = rows_of([([5, 6], [7]), ([8], [9, 10, 11])], pad=0, device=torch.device("cpu"))

    assert rows.input_ids.tolist() == [[5, 6, 7, 0], [8, 9, 10, 11]]
    assert rows.prompt_lengths.tolist() == [2, 1] and rows.lengths.tolist() == [3, 4]
    assert rows.completion_mask.tolist() == [[True, False, False], [True, True, True]]
    assert rows.completion_ids[rows.completion_mask].tolist() == [7, 9, 10, 11]
    again = Rows.of(rows.input_ids, rows.prompt_lengths, rows.lengths)
    assert torch.equal(again.completion_ids, rows.completion_ids)
