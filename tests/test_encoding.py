"""Texts as token ids."""

import torch

from bench.encoding import encode, rows_of
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
    """Characters, but for "a b" and "a c", which are one token each: the prompt's last token merges into them."""

    eos_token_id = 0

    def __call__(self, text: str):
        ids = [ord(c) for c in text.replace("a b", "B").replace("a c", "C")]
        return type("Encoding", (), {"input_ids": ids})()


def test_where_a_prompt_merges_into_a_summary_all_completions_start_there():
    prompt, b, x = [ord("z")], [ord("B"), 0], [ord("a"), ord(" "), ord("x"), 0]

    assert encode(Merging(), "za", "b", "x") == [(prompt, b), (prompt, x)]  # type: ignore[arg-type]
    assert encode(Merging(), "za", "x") == [([ord("z"), ord("a")], x[1:])]  # type: ignore[arg-type]


def test_rows_are_right_padded_and_know_their_parts():
    rows = rows_of([([5, 6], [7]), ([8], [9, 10, 11])], pad=0, device=torch.device("cpu"))

    assert rows.input_ids.tolist() == [[5, 6, 7, 0], [8, 9, 10, 11]]
    assert rows.prompt_lengths.tolist() == [2, 1] and rows.lengths.tolist() == [3, 4]
    assert rows.completion_mask.tolist() == [[True, False, False], [True, True, True]]
    assert rows.completion_ids[rows.completion_mask].tolist() == [7, 9, 10, 11]
    again = Rows.of(rows.input_ids, rows.prompt_lengths, rows.lengths)
    assert torch.equal(again.completion_ids, rows.completion_ids)
