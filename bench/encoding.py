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

    An empty summary is EOS alone, and an EOS that is written out at its end is that EOS. The prompt's ids are those
    that a policy is prompted with: where they would merge into a summary, the summary's ids are those it has alone.
    """
    alone = tokenizer(prompt).input_ids
    return [(alone, [*_behind(tokenizer, prompt, alone, summary), eos_id(tokenizer)]) for summary in summaries]


def merges(tokenizer: PreTrainedTokenizerBase, prompt: str, summary: str) -> bool:
    """Whether the prompt's last tokens would be others with the summary behind them."""
    alone = tokenizer(prompt).input_ids
    return tokenizer(f"{prompt} {summary.strip()}").input_ids[: len(alone)] != alone


def without_eos(text: str, eos: str) -> str:
    """The text without the EOS tokens, written out, and the white space at its end."""
    text = text.rstrip()
    while eos and text.endswith(eos):
        text = text.removesuffix(eos).rstrip()
    return text


def completion_lengths(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], summaries: Sequence[str]
) -> list[int]:
    """How many ids `encode` gives each summary behind its prompt, many at once."""
    lengths: list[int] = []
    for start in range(0, len(prompts), _AT_ONCE):
        some = prompts[start : start + _AT_ONCE]
        texts = [_text(tokenizer, summary) for summary in summaries[start : start + _AT_ONCE]]
        alone = tokenizer(list(some)).input_ids
        whole = tokenizer([f"{prompt} {text}" for prompt, text in zip(some, texts, strict=True)]).input_ids
        for of_prompt, of_both, text in zip(alone, whole, texts, strict=True):
            lengths.append(len(_cut(tokenizer, of_prompt, of_both, text) if text else []) + 1)
    return lengths


_AT_ONCE = 256  # ids of a few hundred prompts are some MiB


def _behind(tokenizer: PreTrainedTokenizerBase, prompt: str, alone: list[int], summary: str) -> list[int]:
    text = _text(tokenizer, summary)
    return _cut(tokenizer, alone, tokenizer(f"{prompt} {text}").input_ids, text) if text else []


def _text(tokenizer: PreTrainedTokenizerBase, summary: str) -> str:
    return without_eos(summary, str(tokenizer.eos_token)).strip()


def _cut(tokenizer: PreTrainedTokenizerBase, alone: list[int], whole: list[int], text: str) -> list[int]:
    """The ids of `whole` behind the prompt's, which are `alone`."""
    if whole[: len(alone)] == alone:
        return whole[len(alone) :]
    return tokenizer(f" {text}", add_special_tokens=False).input_ids


def rows_of(items: Sequence[Tokens], pad: int, device: torch.device) -> Rows:
    """The items as right-padded rows."""
    ids = pad_sequence([torch.tensor([*p, *c]) for p, c in items], batch_first=True, padding_value=pad)
    prompts = torch.tensor([len(prompt) for prompt, _ in items])
    lengths = torch.tensor([len(prompt) + len(completion) for prompt, completion in items])
    return Rows.of(ids.to(device), prompts.to(device), lengths.to(device))
