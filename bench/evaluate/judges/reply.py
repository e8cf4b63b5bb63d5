"""What a chat completion's body holds: an answer and how it ended, or a failure in an answer's place."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.evaluate.judges.cache import Outcome

_ENDINGS: dict[str, Outcome] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "finished"),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "finished"),
    **dict.fromkeys(("length", "max_tokens", "max_length", "max_output_tokens", "model_length"), "cut_off"),
    **dict.fromkeys(("content_filter", "safety", "prohibited_content", "recitation", "blocklist"), "filtered"),
    "refusal": "refused",
}
"""finish_reason, of OpenAI and of the servers that speak its language in a dialect -> how the answer ended."""
_BROKEN = ("error", "abort", "cancelled", "insufficient_system_resource")
"""finish_reason of an answer that the server could not give."""
_THOUGHTS = ("thinking", "reasoning", "redacted_thinking", "summary")
"""Types of parts that are no part of the answer. So are the fields `reasoning` and `reasoning_content`."""


@dataclass(frozen=True)
class Reply:
    """An answer as the server gave it; `tokens` are (prompt, completion) as it counts them."""

    text: str
    outcome: Outcome
    tokens: tuple[int, int] | None


@dataclass(eq=False)
class NoReply(Exception):
    """A response without an answer.

    Attributes:
        problem: the server's words, or what is wrong with them.
        status: of HTTP, also where the server put it into a body that it sent with 200; None for none.
        codes: what the server calls its error (code and type).
        headers: of the response.
        is_empty: an answer came, and there was nothing in it.
        tokens: (prompt, completion) that were spent all the same; None where that is not known.
    """

    problem: str
    status: int | None = None
    codes: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    is_empty: bool = False
    tokens: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.problem


def read_reply(body: Any) -> Reply:
    """The answer in the body of a response with status 200.

    The text is the content's (its text parts, where it is a list), followed by the arguments of tool calls, one on a
    line. Thoughts in fields or parts of their own are left out.

    Raises:
        NoReply: the body is no chat completion, it or its choice carries an error, or nothing was said.
    """
    if not isinstance(body, Mapping):
        raise NoReply("the body is no chat completion")
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for holder in (choice, body):
        if isinstance(holder, Mapping) and holder.get("error"):
            raise _as_no_reply(holder["error"])
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise NoReply("the body is no chat completion")
    tokens = _tokens(body.get("usage"))
    ending = str(choice.get("finish_reason") or "").lower()
    if ending in _BROKEN:
        raise NoReply(f"the answer ended in finish_reason {ending}", tokens=tokens)
    outcome = _ENDINGS.get(ending, "unfinished")
    text = "\n".join(part for part in _texts(message) if part)
    if refusal := _refusal(message):
        return Reply(refusal, "filtered" if outcome == "filtered" else "refused", tokens)
    if outcome in ("finished", "unfinished") and not text.strip():
        raise NoReply("the answer is empty", is_empty=True, tokens=tokens)
    return Reply(text, outcome, tokens)


def _as_no_reply(error: Any) -> NoReply:
    """An error in a body: `{"code": 502, "message": ...}`, or a text."""
    if not isinstance(error, Mapping):
        return NoReply(str(error))
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    codes = tuple(str(error[name]) for name in ("code", "type") if error.get(name))
    return NoReply(str(error.get("message") or json.dumps(error)), status=status, codes=codes)


def _texts(message: Mapping[str, Any]) -> Iterable[str]:
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping) and part.get("type") not in _THOUGHTS and isinstance(part.get("text"), str):
            yield part["text"]
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    for function in (*functions, message.get("function_call")):
        if isinstance(function, Mapping) and (arguments := function.get("arguments")):
            yield arguments if isinstance(arguments, str) else json.dumps(arguments)


def _refusal(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    said = (message.get("refusal"), *(part.get("refusal") for part in parts))
    return "\n".join(one for one in said if isinstance(one, str) and one)


def _tokens(usage: Any) -> tuple[int, int] | None:
    if not isinstance(usage, Mapping):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (prompt, completion) if isinstance(prompt, int) and isinstance(completion, int) else None
