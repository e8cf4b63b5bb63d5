"""What the data is like, before anything is trained on it."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from bench.data.prompts import completion_text
from bench.records import ComparisonData

_MOSTLY_WHOLE = 0.1
"""Share of prompts that may be cut without a word: Huang et al.'s 512 tokens cut next to none of the TL;DR posts."""
_FEW_PROMPTS = 20
"""Below, hardly a win rate is told from a half."""


def counted_at_once(data: ComparisonData, tokenize: Callable[[list[str]], list[list[int]]]) -> Callable[[str], int]:
    """How many tokens a text has. The data's own texts are tokenised together, several times as fast as one by one."""
    prompts, summaries = _texts(data)
    texts = [*dict.fromkeys([*prompts, *map(completion_text, summaries)])]
    known = dict(zip(texts, map(len, tokenize(texts)), strict=True)) if texts else {}
    return lambda text: known[text] if text in known else len(tokenize([text])[0])


def _texts(data: ComparisonData) -> tuple[list[str], list[str]]:
    """The distinct prompts, and every summary."""
    demonstrations = [d for rows in data.demonstrations.values() for d in rows]
    pairs = [pair for rows in data.preferences.values() for pair in rows]
    prompts = dict.fromkeys(record.prompt for record in [*demonstrations, *pairs, *data.eval_prompts])
    summaries = [d.completion for d in demonstrations]
    summaries += [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    summaries += [prompt.reference for prompt in data.eval_prompts if prompt.reference]
    return [*prompts], summaries


def data_statistics(
    data: ComparisonData, count_tokens: Callable[[str], int], truncated_prompts: int = 0, special_tokens: int = 0
) -> dict[str, Any]:
    """The `data` field of metrics.json.

    Lengths are in tokens, without EOS: `prompt_tokens` over the distinct prompts, `completion_tokens` over
    every summary (demonstrations, chosen, rejected, reference summaries of test posts); None where there are
    none. `longer_wins` is the share of training pairs whose chosen summary is longer (equal lengths count
    half), None without pairs. `notes` are what a reader has to know: many prompts cut, next to no test prompts.

    Args:
        special_tokens: how many a tokenizer puts before every text, and so not before a summary behind its prompt.
    """
    count = cache(count_tokens)
    prompts, summaries = _texts(data)

    def length(summary: str) -> int:
        return count(completion_text(summary)) - special_tokens

    pairs = [] if data.awaits_labels else data.preferences["train"]
    differences = [length(pair.chosen) - length(pair.rejected) for pair in pairs]
    return {
        "counts": {
            "demonstrations": {split: len(rows) for split, rows in data.demonstrations.items()},
            "preferences": {split: len(rows) for split, rows in data.preferences.items()},
            "eval_prompts": len(data.eval_prompts),
        },
        "prompt_tokens": _length_summary([count(prompt) for prompt in prompts]),
        "completion_tokens": _length_summary([length(summary) for summary in summaries]),
        "dropped": dict(data.dropped),
        "longer_wins": float(np.mean([(np.sign(d) + 1) / 2 for d in differences])) if differences else None,
        "prompts": len(prompts),
        "truncated_prompts": truncated_prompts,
        "notes": _notes(data, truncated_prompts, len(prompts)),
    }


def _notes(data: ComparisonData, truncated: int, prompts: int) -> list[str]:
    notes = []
    if truncated > _MOSTLY_WHOLE * prompts:
        notes.append(
            f"{truncated:,} of {prompts:,} prompts ({truncated / prompts:.0%}) are cut at the end of their post to fit"
            " budget.max_prompt_tokens: every arm, and every judge, sees a part of them. Raise it as far as the model"
            " and the memory allow (budget=posts has 512)."
        )
    if data.eval_prompts and not data.has_references:
        notes.append(
            "No test post has a reference summary: arms are compared with each other alone, and there is no win rate"
            " against it and no ROUGE. data.columns.reference names a column of them, data.reference_from_chosen=true"
            " takes the chosen summaries of the test pairs."
        )
    if len(data.eval_prompts) < _FEW_PROMPTS and data.source.get("name") == "files":
        notes.append(
            f"{len(data.eval_prompts)} test prompts decide next to nothing. Give more: a larger share of a file that is"
            " split by post (data.test_fraction=0.3), or a file of test posts."
        )
    return notes


def format_statistics(statistics: dict[str, Any]) -> str:
    """A small table for the terminal."""
    counts = statistics["counts"]
    splits = ["train", "judge", "validation", "test"]
    table = {
        "demonstrations": counts["demonstrations"],
        "preference pairs": counts["preferences"],
        "evaluation prompts": {"test": counts["eval_prompts"]},
    }
    lines = ["".join([f"{'':<20}", *(f"{split:>12}" for split in splits)])]
    for name, by_split in table.items():
        lines.append("".join([f"{name:<20}", *(f"{_cell(by_split.get(split)):>12}" for split in splits)]))
    lines.append("")
    lines.append("".join([f"{'length in tokens':<20}", *(f"{name:>12}" for name in ("mean", "p95", "max"))]))
    for name in ("prompt_tokens", "completion_tokens"):
        row = statistics[name]
        cells = [f"{row['mean']:.1f}", f"{row['p95']:.0f}", f"{row['max']}"] if row else ["-"] * 3
        lines.append("".join([f"{name.split('_')[0] + 's':<20}", *(f"{cell:>12}" for cell in cells)]))
    lines.append("")
    if statistics["longer_wins"] is not None:
        lines.append(f"the longer summary is the chosen one in {statistics['longer_wins']:.1%} of training pairs")
    lines.append(f"prompts cut to fit: {statistics['truncated_prompts']:,} of {statistics['prompts']:,}")
    dropped = [f"{n:,} {reason}" for reason, n in statistics["dropped"].items()]
    lines.append(f"rows left out: {', '.join(dropped) or 'none'}")
    lines += [f"note: {note}" for note in statistics["notes"]]
    return "\n".join(lines)


def _length_summary(lengths: Sequence[int]) -> dict[str, float | int] | None:
    if not lengths:
        return None
    return {"mean": float(np.mean(lengths)), "p95": float(np.percentile(lengths, 95)), "max": max(lengths)}


def _cell(count: int | None) -> str:
    return "" if count is None else f"{count:,}"
