"""Texts as token ids, one way for all: what is trained on, scored and measured is the same row of tokens."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

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
    alone, end = tokenizer(prompt).input_ids, _end(tokenizer, prompt)
    of_end = alone if end == prompt else tokenizer(end).input_ids
    return [(alone, [*_behind(tokenizer, end, of_end, summary), eos_id(tokenizer)]) for summary in summaries]


def merges(tokenizer: PreTrainedTokenizerBase, prompt: str, summary: str) -> bool:
    """Whether the prompt's last tokens would be others with the summary behind them."""
    end = _end(tokenizer, prompt)
    alone = tokenizer(end).input_ids
    return tokenizer(f"{end} {summary.strip()}").input_ids[: len(alone)] != alone


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
        some = [_end(tokenizer, prompt) for prompt in prompts[start : start + _AT_ONCE]]
        texts = [_text(tokenizer, summary) for summary in summaries[start : start + _AT_ONCE]]
        ends = list(dict.fromkeys(some))
        alone = dict(zip(ends, tokenizer(ends).input_ids, strict=True))
        whole = tokenizer([f"{end} {text}" for end, text in zip(some, texts, strict=True)]).input_ids
        for end, of_both, text in zip(some, whole, texts, strict=True):
            lengths.append(len(_cut(tokenizer, alone[end], of_both, text) if text else []) + 1)
    return lengths


_AT_ONCE = 256  # ids of a few hundred prompts are some MiB
# Llama 3's and Qwen's. Like GPT-2's, which is ByteLevel's own, they let no piece of a text reach over a newline and a
# letter behind it, and none hangs on what stands before it.
_CUT_BEHIND_NEWLINES = tuple(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    + digits
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}{1,3}", r"\p{N}")
)


def _end(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The last line of the prompt, if the ids of what stands behind it are the same without the lines before; else the
    whole prompt. Of a post of 250 words that is the most of what a tokenizer does."""
    start = prompt.rfind("\n") + 1
    begins = prompt[start : start + 1]
    if not (start and begins.isascii() and begins.isalpha()):
        return prompt
    return prompt[start:] if _cuts_behind_newlines(tokenizer, len(tokenizer)) else prompt


@lru_cache(8)
def _cuts_behind_newlines(tokenizer: PreTrainedTokenizerBase, tokens: int) -> bool:
    """Whether the tokenizer cuts every text into pieces, tokenised one by one, of which one begins at a letter behind
    a newline, whatever stands before. `tokens`, of which there may come more, are part of the question."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None:
        return False
    pieces = json.loads(backend.pre_tokenizer.__getstate__())
    steps = pieces["pretokenizers"] if pieces["type"] == "Sequence" else [pieces]
    form = None if backend.normalizer is None else json.loads(backend.normalizer.__getstate__())["type"]
    added = backend.get_added_tokens_decoder().values()
    return (
        form in (None, "NFC")
        and all(map(_is_local, steps))
        and any(map(_cuts, steps))
        and not any("\n" in token.content or token.lstrip or token.rstrip for token in added)
    )


def _cuts(step: Mapping[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return step["use_regex"]
    return step["type"] == "Split" and step["pattern"].get("Regex") in _CUT_BEHIND_NEWLINES


def _is_local(step: Mapping[str, Any]) -> bool:
    """Whether pieces become what they become by themselves."""
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] == "Digits" or (_cuts(step) and step["behavior"] == "Isolated" and not step["invert"])


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
