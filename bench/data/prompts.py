"""Prompt formats of the field, and how a prompt that is too long is cut so that its last line survives."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from bench.encoding import without_eos
from bench.errors import DataError
from bench.records import ComparisonData

_POST_START = re.compile(r"^(?:POST: |Article:\n)", re.MULTILINE)
_CUE = re.compile(r"\n+[^\n]*:\s*\Z")
_REMERGE_SLACK = 32
"""Tokens that a cut may remove beyond one per byte, because the last word is merged anew."""


class PromptParts(NamedTuple):
    """A prompt as head + post + tail; the tail is the closing line that asks for the summary ("TL;DR:")."""

    head: str
    post: str
    tail: str


def tldr_prompt(subreddit: str, title: str, post: str) -> str:
    """The TL;DR prompt of Stiennon et al. 2020, as in Huang et al. 2024 (no trailing space)."""
    return f"SUBREDDIT: r/{subreddit.strip()}\n\nTITLE: {title.strip()}\n\nPOST: {post.strip()}\n\nTL;DR:"


def bare_prompt(post: str) -> str:
    """The TL;DR prompt for posts without a title."""
    return f"POST: {post.strip()}\n\nTL;DR:"


def titled_prompt(title: str, post: str) -> str:
    """The TL;DR prompt for posts from no subreddit."""
    return f"TITLE: {title.strip()}\n\nPOST: {post.strip()}\n\nTL;DR:"


def cnn_dm_prompt(article: str) -> str:
    """The CNN/DM prompt of Huang et al. 2024, but ended like the TL;DR prompt: a space starts completions."""
    return f"Article:\n{article.strip()}\n\nTL;DR:"


def completion_text(summary: str) -> str:
    """The summary as it is put behind a prompt: one leading space, none at the end."""
    return " " + summary.strip()


@lru_cache(256)  # what is measured of a completion asks again and again
def split_prompt(prompt: str) -> PromptParts:
    """Head, post and tail; the post is empty where no line starts with "POST: " or is "Article:"."""
    start = _POST_START.search(prompt)
    if start is None:
        return PromptParts(prompt, "", "")
    cue = _CUE.search(prompt, start.end())
    end = cue.start() if cue else len(prompt)
    return PromptParts(prompt[: start.end()], prompt[start.end() : end], prompt[end:])


def text_parts(prompt: str) -> PromptParts:
    """The same; a prompt that marks no post is a text with, perhaps, a closing line."""
    parts = split_prompt(prompt)
    if parts.post or parts.head != prompt:
        return parts
    cue = _CUE.search(prompt)
    return PromptParts("", prompt[: cue.start()] if cue else prompt, cue[0] if cue else "")


def truncate_post(
    prompt: str, max_tokens: int, count_tokens: Callable[[str], int], *, prompt_id: str = ""
) -> tuple[str, bool]:
    """The prompt with at most `max_tokens` tokens, and whether it was cut.

    While the prompt is too long, the post loses what follows its last newline, or its last character where it
    has no newline (Huang et al. 2024). A prompt that marks no post loses its text's last words. Cuts that cannot be
    enough are skipped: removing k bytes takes at most k tokens, give or take the last word's, so this is the plain rule
    at a fraction of its tokenizations.

    Raises:
        DataError: the prompt is too long even without its post.
    """
    n_tokens = count_tokens(prompt)
    if n_tokens <= max_tokens:
        return prompt, False
    head, post, tail = text_parts(prompt)
    cut = _cut if head else _cut_words
    excess = n_tokens - max_tokens
    while excess > 0:
        if not post:
            name = f"prompt {prompt_id!r}" if prompt_id else "prompt"
            raise DataError(
                f"{name} is longer than the model takes: {n_tokens} tokens (at most {max_tokens})"
                " and no post left to cut; shorten it, raise budget.max_prompt_tokens, or choose a model"
                " with a longer context"
            )
        post = cut(post, max(1, excess - _REMERGE_SLACK))
        excess = count_tokens(head + post + tail) - max_tokens
    return head + post + tail, True


def _cut(post: str, n_bytes: int) -> str:
    """The longest post on the plain rule's way that is at least `n_bytes` bytes shorter."""
    shorter = post.encode()[:-n_bytes].decode(errors="ignore")
    newline = post.rfind("\n", 0, len(shorter) + 1)
    return post[:newline] if newline >= 0 else shorter


def without_written_eos(data: ComparisonData, eos: str) -> ComparisonData:
    """The data without the EOS that some files write out at the end of their summaries: it is put there anyway.

    As a token of its own it would be learnt from, and scored, twice.
    """

    def bare_rows(rows, *names: str):
        return [bare(row, *names) for row in rows]

    def bare(record, *names: str):
        texts = {name: getattr(record, name) for name in names}
        changed = {name: without_eos(text, eos) for name, text in texts.items() if text and text.endswith(eos)}
        return replace(record, **changed) if changed else record

    return replace(
        data,
        demonstrations={split: bare_rows(rows, "completion") for split, rows in data.demonstrations.items()},
        preferences={
            split: bare_rows(rows, "chosen", "rejected", "reference") for split, rows in data.preferences.items()
        },
        eval_prompts=bare_rows(data.eval_prompts, "reference"),
    )


def _cut_words(text: str, n_bytes: int) -> str:
    """The longest run of words from the start that is at least `n_bytes` bytes shorter; of one word, of characters."""
    shorter = text.encode()[:-n_bytes].decode(errors="ignore")
    words = shorter.rsplit(None, 1)
    return words[0] if len(words) > 1 and not text[len(shorter) : len(shorter) + 1].isspace() else shorter.rstrip()


def truncate_prompts(
    data: ComparisonData, max_tokens: int, count_tokens: Callable[[str], int]
) -> tuple[ComparisonData, int]:
    """The data with every prompt at most `max_tokens` tokens long, and how many distinct prompts were cut."""
    seen: dict[str, tuple[str, bool]] = {}

    def shorten(record):
        if record.prompt not in seen:
            seen[record.prompt] = truncate_post(record.prompt, max_tokens, count_tokens, prompt_id=record.id)
        return replace(record, prompt=seen[record.prompt][0])

    shortened = replace(
        data,
        demonstrations={split: [shorten(r) for r in rows] for split, rows in data.demonstrations.items()},
        preferences={split: [shorten(r) for r in rows] for split, rows in data.preferences.items()},
        eval_prompts=[shorten(r) for r in data.eval_prompts],
    )
    return shortened, sum(was_cut for _, was_cut in seen.values())
