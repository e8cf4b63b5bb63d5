"""Texts as token ids, one way for all: what is trained on, scored and measured is the same row of tokens."""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from bench.records import Rows
from bench.special_tokens import eos_id

Tokens = tuple[list[int], list[int]]
"""(prompt ids, completion ids)."""


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, *summaries: str) -> list[Tokens]:
    """For each summary the prompt's ids, and those of " summary" and EOS as they stand behind it.

    An empty summary is EOS alone. Where the prompt's last tokens merge into a summary, every completion starts where
    the first of the encodings part, so that the summaries of one prompt share it.
    """
    alone = tokenizer(prompt).input_ids
    whole = [tokenizer(f"{prompt} {text}" if (text := summary.strip()) else prompt).input_ids for summary in summaries]
    shared = min(_common_prefix(alone, ids) for ids in whole)
    return [(ids[:shared], [*ids[shared:], eos_id(tokenizer)]) for ids in whole]


def rows_of(items: Sequence[Tokens], pad: int, device: torch.device) -> Rows:
    """The items as right-padded rows."""
    ids = pad_sequence([torch.tensor([*p, *c]) for p, c in items], batch_first=True, padding_value=pad)
    prompts = torch.tensor([len(prompt) for prompt, _ in items])
    lengths = torch.tensor([len(prompt) + len(completion) for prompt, completion in items])
    return Rows.of(ids.to(device), prompts.to(device), lengths.to(device))


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids the two begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
