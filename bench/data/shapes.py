"""The shapes in which people keep prompts and preferences, as plain texts: conversations, pairs that repeat their
prompt, rankings of any length."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from bench.data.rows import Row
from bench.errors import DataError


class Preference(NamedTuple):
    """Two summaries of a ranking, the better one first; `is_tie` where they are as good as each other."""

    chosen: str
    rejected: str
    is_tie: bool


def is_conversation(value: Any) -> bool:
    """Whether a cell is a list of messages, {"role": ..., "content": ...}."""
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "content" in m for m in value)


def spoken(messages: Sequence[Mapping[str, Any]], row: Row, column: str) -> tuple[str, str]:
    """Prompt and answer of a conversation of one question: what system and user say, and what the assistant answers.

    Either is empty where the conversation has none of it.

    Raises:
        DataError: several turns, or a role that is none of the three.
    """
    roles = [str(message.get("role")) for message in messages]
    asked = [role for role in roles if role in ("system", "user")]
    in_order = roles in (asked, [*asked, "assistant"]) and asked in ([], ["user"], ["system", "user"], ["system"])
    if not in_order:
        raise DataError(
            f"{row.where}: column {column!r} holds a conversation of {', '.join(roles)}; one user message and one"
            " answer are understood: write what comes before the last answer into a prompt column"
        )
    texts = [str(message["content"] or "").strip() for message in messages]
    answer = texts.pop() if roles[-1] == "assistant" else ""
    return "\n\n".join(texts), answer


def without_prompt(prompt: str, *summaries: str) -> list[str]:
    """The summaries without the prompt that all of them begin with; as they are where one does not."""
    if not all(summary.startswith(prompt) and summary[len(prompt) :].strip() for summary in summaries):
        return list(summaries)
    return [summary[len(prompt) :].strip() for summary in summaries]


def ranked(summaries: Sequence[str], ratings: Sequence[float] | None) -> list[Preference]:
    """Every pair of a ranking: by its ratings, higher is better, or where there are none best first."""
    scores = ratings if ratings is not None else [float(-place) for place in range(len(summaries))]
    pairs = []
    for i, j in combinations(range(len(summaries)), 2):
        better, worse = (i, j) if scores[i] >= scores[j] else (j, i)
        pairs.append(Preference(summaries[better], summaries[worse], scores[i] == scores[j]))
    return pairs
