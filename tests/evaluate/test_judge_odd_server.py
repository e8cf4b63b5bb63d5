"""The judge of `judge=openai` against what endpoints answer with: read, unparsed or asked again, and never guessed.

`READ`, `UNREAD` and `AGAIN` have one entry per oddity; `test_2000_judgements` deals them out over 2,000 questions.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ResourceError
from bench.evaluate.judges.cache import VerdictCache
from bench.evaluate.judges.config import OpenAIJudgeConfig
from bench.evaluate.judges.openai_compatible import OpenAIJudge

JSON = '{"preferred": "{}"}'
CUT_THOUGHT = "<thinking>The first names the dog, so I lean to it. Preferred: {}"


def said(content: Any, ending: Any = "stop", **message: Any) -> dict[str, Any]:
    return {"choice": {"finish_reason": ending, "message": {"role": "assistant", "content": content, **message}}}


def called(arguments: Any) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "verdict", "arguments": arguments}}
    return said(None, "tool_calls", tool_calls=[call])


READ: dict[str, Any] = {
    "reason behind": said("Preferred: {} - because it names the dog"),
    "reason above": said("The other leaves out the dog.\nPreferred: {}"),
    "fenced json": said(f"Here is my verdict:\n```json\n{JSON}\n```"),
    "json": said(JSON),
    "parts": said([{"type": "text", "text": "One is shorter."}, {"type": "text", "text": "Preferred: {}"}]),
    "parts of text": said(["Preferred: ", "{}"]),
    "a part that thinks": said(
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Preferred: {other}"}]},
            {"type": "text", "text": "{}"},
        ]
    ),
    "tool call": called(JSON),
    "tool call as an object": called({"preferred": "{}"}),
    "function call": said(None, "function_call", function_call={"name": "verdict", "arguments": JSON}),
    "boxed": said("So it is $\\boxed{{}}$."),
    "tag": said("<answer>{}</answer>"),
    "winner": said("Winner: {}"),
    "end token": said("{}</s>"),
    "lower case": said("preferred: summary {}"),
    "think": said("<think>Preferred: {other}? No.</think>\n\nPreferred: {}"),
    "thinking": said("<thinking>Preferred: {other}</thinking>Preferred: {}"),
    "THINK": said("[THINK]Preferred: {other}[/THINK]Preferred: {}"),
    "no opening": said("Preferred: {other}? Hmm.</think>Preferred: {}"),
    "reasoning_content": said("Preferred: {}", reasoning_content="Preferred: {other}"),
    "reasoning": said("Preferred: {}", reasoning="Preferred: {other}", reasoning_details=[{"text": "{other}"}]),
    "ends in eos": said("Preferred: {}", "eos"),
    "ends in STOP": said("Preferred: {}", "STOP"),
    "ends in end_turn": said("Preferred: {}", "end_turn"),
    "openrouter": {
        **said("Preferred: {}", native_finish_reason="x"),
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    },
    "no usage": {**said("Preferred: {}"), "usage": None},
    "odd usage": {**said("Preferred: {}"), "usage": {"prompt_tokens": "many"}},
}
UNREAD: dict[str, tuple[Any, str]] = {
    # what comes, and what it is counted as beside `unparsed`
    "cut off in a thought": (said(CUT_THOUGHT, "length"), "cut_off"),
    "cut off behind a verdict": (said("Preferred: {}\nThat is because", "length"), "cut_off"),
    "cut off with nothing said": (said("", "length", reasoning_content="Preferred: {}"), "cut_off"),
    "cut off by max_tokens": (said("Preferred: {}", "max_tokens"), "cut_off"),
    "filtered": (said("Preferred: {}", "content_filter"), "filtered"),
    "filtered with nothing": (said(None, "content_filter"), "filtered"),
    "refusal": (said(None, refusal="I will not judge this."), "refused"),
    "refusal as a part": (said([{"type": "refusal", "refusal": "No."}]), "refused"),
    "ends in refusal": (said("Preferred: {}", "refusal"), "refused"),
    "no ending": (said("Preferred: {}", None), "unfinished"),
    "unknown ending": (said("Preferred: {}", "pause_turn"), "unfinished"),
    "unclosed thought": (said(CUT_THOUGHT), ""),
    "only a thought": (said("<think>Preferred: {}</think>"), ""),
    "neither": (said("Preferred: neither"), ""),
    "both": (said("Both are good."), ""),
    "tie": (said("Preferred: tie"), ""),
    "two letters": (said("Preferred: {} or {other}"), ""),
    "two lines": (said("Preferred: {}\nPreferred: {other}"), ""),
    "taken back": (said("Preferred: {} - no, wait, {other}"), ""),
    "refusal in words": (said("I'm sorry, but I can't choose between these."), ""),
    "another language": (said("Bevorzugt wird die kürzere."), ""),
    "the format, repeated": (said('Preferred: "A"\nor\nPreferred: "B"'), ""),
    "two tool calls": (
        said(None, "tool_calls", tool_calls=[{"function": {"arguments": json.dumps({"preferred": x})}} for x in "AB"]),
        "",
    ),
}
AGAIN: dict[str, Any] = {
    "error in the choice": {"choice": {"finish_reason": "error", "error": {"code": 502, "message": "upstream"}}},
    "error in the body": {"body": {"error": {"code": 503, "message": "no provider"}}},
    "error in words": {"body": {"error": "model is loading"}},
    "finish_reason error": {**said("Preferred: {other}", "error"), "is_failure": True},
    "abort": {**said("Preferred: {other}", "abort"), "is_failure": True},
    "empty": {**said(""), "is_failure": True},
    "blank": {**said(" \n"), "is_failure": True},
    "null": {**said(None), "is_failure": True},
    "no parts": {**said([]), "is_failure": True},
    "no message": {"choice": {"message": None}, "is_failure": True},
    "a list": {"body": []},
    "429 in the body": {"body": {"error": {"code": 429, "message": "slow down"}}},
    "429 with a reset": {"status": 429, "headers": {"x-ratelimit-reset-requests": "20ms"}, "body": {"error": {}}},
    "429 with milliseconds": {"status": 429, "headers": {"retry-after-ms": "15"}, "body": {}},
    "500": "500",
    "cut connection": "cut",
    "no json": "no json",
    "no choices": "no choices",
}


@pytest.fixture
def cache(tmp_path: Path) -> VerdictCache:
    return VerdictCache(tmp_path / "answers.sqlite")


@pytest.fixture
def make_judge(judge_server, cache: VerdictCache) -> Callable[..., OpenAIJudge]:
    """make_judge(setting=value, ...): a judge that asks the odd server, impatiently."""

    def make(**settings) -> OpenAIJudge:
        defaults = {"model": "m", "base_url": judge_server.base_url, "api_key_env": None}
        impatience = {"timeout_s": 5.0, "retry_wait_s": 0.01}
        return OpenAIJudge(OpenAIJudgeConfig(**{**defaults, **impatience, **settings}), cache)

    return make


@pytest.mark.parametrize("name", READ)
def test_read(judge_server, make_judge, make_items, right_verdicts, name: str):
    items = make_items(2)
    judge_server.script = lambda post, attempt: READ[name]
    judge = make_judge()

    assert judge.judge(items) == right_verdicts(items)
    assert judge.usage.requests == 2 and judge.usage.unparsed == 0


@pytest.mark.parametrize("name", UNREAD)
def test_unread_and_kept(judge_server, make_judge, make_items, name: str):
    items = make_items(2)
    response, counted = UNREAD[name]
    judge_server.script = lambda post, attempt: response
    for requests, cached in ((2, 0), (0, 2)):
        judge = make_judge()

        assert judge.judge(items) == ["unparsed"] * 2
        assert (judge.usage.requests, judge.usage.cached, judge.usage.unparsed) == (requests, cached, 2)
        counts = {
            kind: getattr(judge.usage, kind) for kind in ("cut_off", "refused", "filtered", "unfinished", "empty")
        }
        assert counts == {kind: 2 * (kind == counted) for kind in counts}


@pytest.mark.parametrize("name", AGAIN)
def test_asked_again(judge_server, make_judge, make_items, right_verdicts, cache, name: str):
    items = make_items(2)
    judge_server.script = lambda post, attempt: AGAIN[name] if attempt == 0 else "{}"
    judge = make_judge()

    assert judge.judge(items) == right_verdicts(items)
    assert judge.usage.requests == 4 and judge.usage.retries == 2
    assert sorted(row.text for row in cache.rows()) == ["A", "B"]


@pytest.mark.long
@pytest.mark.slow
def test_2000_judgements(judge_server, make_judge, make_items, right_verdicts, cache):
    """None guessed, none lost that can be read, none bought twice."""
    items = make_items(2000)
    plans: dict[str, tuple[list[str], str]] = {}
    for item in items:
        draw = random.Random(item.prompt)
        failures = draw.choices(list(AGAIN), k=draw.choice([0, 0, 0, 1, 1, 2]))
        plans[item.prompt] = failures, draw.choice(list(READ) if draw.random() < 0.7 else list(UNREAD))
    responses = {**READ, **{name: response for name, (response, _) in UNREAD.items()}}

    def script(post: str, attempt: int) -> Any:
        failures, last = plans[post]
        return AGAIN[failures[attempt]] if attempt < len(failures) else responses[last]

    judge_server.script = script
    judge = make_judge(concurrency=16)
    verdicts = judge.judge(items)

    truth = right_verdicts(items)
    expected = [t if plans[item.prompt][1] in READ else "unparsed" for item, t in zip(items, truth, strict=True)]
    assert verdicts == expected
    assert judge_server.answered == {(item.prompt, item.first, item.second): 1 for item in items}
    dealt = Counter(last for _, last in plans.values())
    assert set(dealt) == set(READ) | set(UNREAD)
    assert judge.usage.unparsed == sum(dealt[name] for name in UNREAD) == expected.count("unparsed")
    for kind in ("cut_off", "refused", "filtered", "unfinished"):
        assert getattr(judge.usage, kind) == sum(
            dealt[name] for name, (_, counted) in UNREAD.items() if counted == kind
        )
    assert judge.usage.retries == sum(len(failures) for failures, _ in plans.values()) > 1000

    again = make_judge()
    assert again.judge(items) == expected
    assert again.usage.requests == 0 and again.usage.cached == 2000


def test_what_stays_empty_is_unparsed_and_asked_for_in_another_run(judge_server, make_judge, make_items, cache):
    items = make_items(3)
    judge_server.script = lambda post, attempt: AGAIN["empty"] if post == "post 1" else "{}"
    judge = make_judge(max_attempts=3)

    assert judge.judge(items) == ["b", "unparsed", "b"]
    assert (judge.usage.requests, judge.usage.unparsed, judge.usage.empty) == (5, 1, 1)
    # 3 tries of 100 and 5 tokens, and 2 answers: what is said is paid for, be it nothing
    assert judge.usage.prompt_tokens == 500 and judge.usage.completion_tokens == 25
    assert len(list(cache.rows())) == 2

    judge_server.script = lambda post, attempt: "{}"
    again = make_judge()
    assert again.judge(items) == ["b", "a", "b"]
    assert again.usage.requests == 1 and again.usage.cached == 2


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (
            said(CUT_THOUGHT, "length"),
            r"'<thinking>The first names .* Preferred: [AB]', cut off; raise judge\.openai\.max_",
        ),
        (
            said("I would rather not say."),
            r"'I would rather not say\.'; an answer must end in Preferred: \"A\" or \"B\"",
        ),
        (said("x" * 500), rf"'{'x' * 80} \.\.\. {'x' * 80}'; an answer must end"),
        (said("Preferred: {}", None), r"end not known; the endpoint does not say that its answers are finished"),
        (said(None, refusal="No."), r"'No\.', a refusal; the model will not judge these texts: choose another"),
        (said("", "content_filter"), r"'', filtered; the endpoint keeps these texts from the model"),
        (AGAIN["empty"], r"''; the model says nothing: look at judge\.openai\.model"),
    ],
)
def test_twenty_in_a_row_that_name_no_summary_stop_the_run(judge_server, make_judge, make_items, response, message):
    items = make_items(60)
    judge_server.script = lambda post, attempt: response
    judge = make_judge(concurrency=1, max_attempts=1)

    with pytest.raises(ResourceError, match=message) as stopped:
        judge.judge(items)

    kept = 0 if response is AGAIN["empty"] else 20
    assert str(stopped.value).startswith("judge openai: 20 answers in a row name no summary, the last one: ")
    assert f"max_unparsed_in_a_row=null goes on all the same; {kept} of the 60 verdicts" in str(stopped.value)
    assert judge_server.attempts.total() == 20 and "\n" not in str(stopped.value)


def test_one_that_can_be_read_begins_the_count_again(judge_server, make_judge, make_items):
    items = make_items(60)
    judge_server.script = lambda post, attempt: "{}" if post in ("post 19", "post 39", "post 59") else "hm"

    assert make_judge(concurrency=1).judge(items).count("unparsed") == 57
    judge_server.script = lambda post, attempt: "hm"
    unbounded = make_judge(max_unparsed_in_a_row=None, temperature=1.0)
    assert unbounded.judge(items) == ["unparsed"] * 60


def test_ties_where_they_are_allowed(judge_server, make_judge, make_items):
    items = make_items(3)
    answers = {"post 0": "Preferred: tie", "post 1": "Preferred: {}", "post 2": "Preferred: neither"}
    judge_server.script = lambda post, attempt: answers[post]

    assert make_judge(allow_ties=True).judge(items) == ["tie", "a", "unparsed"]
    assert 'or, if neither is better,\nPreferred: "tie"' in judge_server.messages[0][-1]["content"]
    assert make_judge().judge(items) == ["unparsed", "a", "unparsed"]  # another question, asked in other words
    assert judge_server.attempts.total() == 6
