"""The judge of `judge=openai` against a real HTTP server that misbehaves on purpose."""

import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from bench.errors import ConfigError, ResourceError
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.cache import VerdictCache
from bench.evaluate.judges.config import OpenAIJudgeConfig
from bench.evaluate.judges.openai_compatible import OpenAIJudge
from bench.evaluate.judges.rate_limits import parse_reset, parse_retry_after, seconds_to_wait

KEY = "sk-loopback-0123456789-SECRET"
CLEAR = [
    'Preferred: "{}"',
    "preferred: {}.",
    "**Preferred:** {}",
    '{"preferred": "{}"}',
    "{}",
    "One is longer.\nPreferred: {}",
]
GARBLED = [
    "refusal",
    "Preferred: A or B",
    "Preferred: {}\nPreferred: {other}",
    "I prefer {}, perhaps",
    "\x00\x01 ?",
]
MISDEEDS = [
    "429:0.02",
    "429",
    "500",
    "503:0.01",
    "502",
    "cut",
    "no json",
    "no json:application/json",
    "no choices",
    "408",
]


@pytest.fixture
def cache(tmp_path: Path) -> VerdictCache:
    return VerdictCache(tmp_path / "answers.sqlite")


@pytest.fixture
def make_judge(judge_server, cache: VerdictCache) -> Callable[..., OpenAIJudge]:
    """make_judge(setting=value, ...): a judge that asks the misbehaving server, impatiently."""

    def make(**settings) -> OpenAIJudge:
        defaults = {"model": "m", "base_url": judge_server.base_url, "api_key_env": None}
        impatience = {"timeout_s": 5.0, "retry_wait_s": 0.01}
        return OpenAIJudge(OpenAIJudgeConfig(**{**defaults, **impatience, **settings}), cache)

    return make


def question(item: JudgeItem) -> tuple[str, str, str]:
    return item.prompt, item.first, item.second


@pytest.mark.slow
@pytest.mark.parametrize("number", [400, pytest.param(2000, marks=pytest.mark.long)])
def test_of_many_judgements_none_is_lost_doubled_or_guessed(
    judge_server, make_judge, make_items, right_verdicts, number: int
):
    """Up to two failures of every kind before each answer, stalls among them; one answer in eight is garbled."""
    items = make_items(number)
    plans = {}
    for item in items:
        draw = random.Random(item.prompt)
        failures = draw.choices(MISDEEDS, k=draw.choice([0, 0, 0, 0, 0, 0, 0, 0, 1, 2]))
        failures += ["stall"] * (draw.random() < 0.005)
        plans[item.prompt] = [*failures, draw.choice(GARBLED if draw.random() < 1 / 8 else CLEAR)]
    judge_server.script = lambda post, attempt: plans[post][attempt]

    judge = make_judge(timeout_s=2.0, concurrency=16)
    verdicts = judge.judge(items)

    truth = right_verdicts(items)
    expected = [t if plans[item.prompt][-1] in CLEAR else "unparsed" for item, t in zip(items, truth, strict=True)]
    assert verdicts == expected
    assert judge_server.answered == {question(item): 1 for item in items}
    failed = sum(len(plan) - 1 for plan in plans.values())
    # 0.3 a judgement, with a variance of 0.41; three standard deviations below at most.
    assert (
        failed > 0.3 * number - 3 * (0.41 * number) ** 0.5
        and sum("stall" in plan for plan in plans.values()) >= number // 600
    )
    assert judge.usage.requests == number + failed and judge.usage.retries == failed
    assert judge.usage.unparsed == expected.count("unparsed") > 0.075 * number
    assert judge.usage.prompt_tokens == number * 100 and judge.usage.completion_tokens == number * 5
    assert judge_server.most_under_way <= 16 + sum("stall" in plan for plan in plans.values())

    again = make_judge()
    assert again.judge(items) == expected
    assert again.usage.requests == 0 and again.usage.cached == number
    assert again.usage.unparsed == judge.usage.unparsed


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(judge_server, make_judge, make_items, right_verdicts, cache, tmp_path):
    items = make_items(120)
    judge_server.script = lambda post, attempt: "slow:0.1"
    program = f"""
from pathlib import Path
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.cache import VerdictCache
from bench.evaluate.judges.config import OpenAIJudgeConfig
from bench.evaluate.judges.openai_compatible import OpenAIJudge
config = OpenAIJudgeConfig(model="m", base_url={judge_server.base_url!r}, api_key_env=None, concurrency=4)
OpenAIJudge(config, VerdictCache(Path({str(cache.path)!r}))).judge({items!r})
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while judge_server.answered.total() < 40 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.2)  # what was on its way to the killed process is answered to nobody
    answered = dict(judge_server.answered)

    judge = make_judge(concurrency=4)
    assert judge.judge(items) == right_verdicts(items)

    kept = judge.usage.cached
    assert 40 - 4 <= kept < 120 and judge.usage.requests == 120 - kept
    assert len(answered) - 4 <= kept <= len(answered)
    assert set(judge_server.answered) == {question(item) for item in items}
    assert sum(times - 1 for times in judge_server.answered.values()) == len(answered) - kept


def test_a_question_is_asked_once_however_often_it_comes(judge_server, make_judge, make_items):
    (item,) = make_items(1)
    same = JudgeItem("another", item.prompt, item.first, item.second)
    swapped = JudgeItem("p", item.prompt, item.second, item.first)
    equal = JudgeItem("p", item.prompt, "equal", "equal")

    judge = make_judge()

    assert judge.judge([item, same, swapped, equal]) == ["b", "b", "a", "tie"]
    assert judge.judge([swapped, item]) == ["a", "b"]
    assert judge_server.attempts.total() == judge.usage.requests == 2
    assert judge.usage.cached == 0


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5},
        {"max_answer_tokens": 9},
        {"prompt": "concise"},
        {"allow_ties": True},
        {"system_role": "user"},
        {"structured_output": "auto"},
        {"extra_body": {"top_k": 1}},
        {"extra_query": {"api-version": "1"}},
    ],
)
def test_other_settings_are_another_question(make_judge, make_items, change):
    items = make_items(2)
    make_judge().judge(items)

    judge = make_judge(**change)
    judge.judge(items)

    assert judge.usage.requests == 2 and judge.usage.cached == 0


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, {"model": "m", "temperature": 0.0, "max_tokens": 128}),
        (
            {"temperature": None, "token_limit_name": "max_completion_tokens", "max_answer_tokens": 7},
            {"model": "m", "max_completion_tokens": 7},
        ),
    ],
)
def test_what_is_sent(judge_server, make_judge, make_items, settings, sent):
    make_judge(**settings).judge(make_items(1))

    assert judge_server.bodies == [sent]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_by_all(judge_server, make_judge, make_items, form):
    """Nobody asks before the server's time, neither the question that it refused nor the others."""
    items = make_items(6)

    def refuse_the_first(post: str, attempt: int) -> str:
        if post == "post 0" and attempt == 0:
            return f"429:{1 if form == 'seconds' else formatdate(time.time() + 2, usegmt=True)}"
        return "slow:0.5"  # long enough for the refusal to come back on a busy machine

    judge_server.script = refuse_the_first
    make_judge(concurrency=2, retry_wait_s=0.0).judge(items)

    times = [t for arrivals in judge_server.arrivals.values() for t in arrivals]
    refused_at, again_at = judge_server.arrivals[question(items[0])]
    assert again_at - refused_at >= 0.9  # a date has whole seconds
    assert len([t for t in times if t < refused_at + 0.9]) <= 2  # the two workers' first questions


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2", 2.0), ("0.5", 0.5), ("-1", 0.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)]
    + [(value, None) for value in (None, "", "soon", "nan", "inf")],
)
def test_retry_after_is_read(value, seconds):
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("20ms", 0.02), ("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("1.5s", 1.5), ("7", 7.0), ("-3", 0.0), ("1d", 86400.0)]
    + [("1000000000", 0.0)]  # a date that is past
    + [(value, None) for value in (None, "", "soon", "s", "5 apples", "nan")],
)
def test_resets_are_read(value, seconds):
    assert parse_reset(value) == seconds


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_reset_can_be_a_date(unit: int):
    assert parse_reset(str(int((time.time() + 30) * unit))) == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3", "x-ratelimit-reset-requests": "9s"}, 3.0),
        ({"retry-after-ms": "1500", "retry-after": "3"}, 1.5),
        ({"x-ratelimit-reset-requests": "9s", "x-ratelimit-reset-tokens": "12ms"}, 9.0),
        # the limit that has something left is not the one that was met
        (
            {
                "x-ratelimit-remaining-requests": "499", "x-ratelimit-reset-requests": "1d",
                "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "41s",
            },
            41.0,
        ),
        ({"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "41s"}, None),
        ({"x-ratelimit-reset": "2"}, 2.0),
        ({"ratelimit-reset": "5", "ratelimit-remaining": "0"}, 5.0),
    ],
)  # fmt: skip
def test_what_a_server_asks_for(headers, seconds):
    assert seconds_to_wait(headers) == seconds


@pytest.mark.parametrize("says", [True, False])
def test_a_closed_window_is_waited_for(judge_server, make_judge, make_items, right_verdicts, says: bool):
    """3 s in which every request is refused, 100 times retry_wait_s: more than max_attempts of doubling would last.

    With x-ratelimit-reset-* everyone comes back once; without, nobody asks more often than the doubling says.
    """
    items = make_items(20)
    opens_at = time.monotonic() + 3

    def script(post: str, attempt: int):
        left = opens_at - time.monotonic()
        if left <= 0:
            return "{}"
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{left:.3f}s"} if says else {}
        return {"status": 429, "headers": headers, "body": {"error": {"message": "too many", "code": "rate_limit"}}}

    judge_server.script = script
    judge = make_judge(concurrency=4, retry_wait_s=0.03, max_attempts=2)

    assert judge.judge(items) == right_verdicts(items)
    # four workers with a refusal each, or two where one came back a moment early; or 3 s in steps that double
    assert judge.usage.retries <= (8 if says else 4 * 9)


def test_a_window_that_does_not_open_ends_the_run(judge_server, make_judge, make_items):
    judge_server.script = lambda post, attempt: "429"

    with pytest.raises(
        ResourceError, match=r"has given no answer for \d+ s: 429 .*; wait, or raise judge\.openai\.max_wait"
    ):
        make_judge(max_wait_s=0.5, retry_wait_s=0.05).judge(make_items(2))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"message": "You exceeded your current quota.", "type": "insufficient_quota"}),
        (403, {"message": "You exceeded your current quota.", "code": "insufficient_quota"}),
        (200, {"message": "You exceeded your current quota.", "code": "insufficient_quota"}),
        (429, {"message": "You exceeded your current quota. (insufficient_quota)"}),
        (429, {"message": "insufficient balance; you exceeded your current quota"}),
    ],
)
def test_an_account_without_money_ends_the_run_at_once(judge_server, make_judge, make_items, status: int, error: dict):
    judge_server.script = lambda post, attempt: {"status": status, "body": {"error": error}}

    with pytest.raises(ResourceError, match=r"exceeded your current quota.*; the account cannot pay for more requests"):
        make_judge(concurrency=1).judge(make_items(5))
    assert judge_server.attempts.total() == 1


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, "System role not supported", r"refuses: 400 .*; try judge\.openai\.system_role=user"),
        (400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
         r"try judge\.openai\.token_limit_name=max_completion_tokens"),
        (400, "'temperature' does not support 0.0 with this model.", r"try judge\.openai\.temperature=null"),
        (404, "The model `m` does not exist", r"refuses: 404 .* does not exist'?.*; 0 of the 1 verdicts"),
        (402, "Insufficient credits", r"refuses: 402 .*Insufficient credits"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_set(judge_server, make_judge, make_items, status, error, message):
    judge_server.script = lambda post, attempt: {"status": status, "body": {"error": {"message": error}}}

    with pytest.raises(ResourceError, match=message):
        make_judge().judge(make_items(1))
    assert judge_server.attempts.total() == 1


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_the_system_text_is_said_by(judge_server, make_judge, make_items, role: str):
    make_judge(system_role=role).judge(make_items(1))

    (messages,) = judge_server.messages
    assert [message["role"] for message in messages] == (["user"] if role == "user" else [role, "user"])
    assert messages[0]["content"].startswith("You compare two summaries")


def test_a_verbatim_prompt(judge_server, make_judge, make_items, tmp_path: Path):
    path = tmp_path / "theirs.txt"
    fences = "".join(
        f"<{name}-000000000000>\n{{{name}}}\n</{name}-000000000000>" for name in ("post", "summary_a", "summary_b")
    )
    path.write_text(f"{fences} Which?", encoding="utf-8")
    items = make_items(1)
    make_judge(prompt=str(path), verbatim=True).judge(items)

    expected = fences.format(post=items[0].prompt, summary_a=items[0].first, summary_b=items[0].second)
    assert judge_server.messages == [[{"role": "user", "content": f"{expected} Which?"}]]


SCHEMA = {
    "type": "object",
    "properties": {"comparison": {"type": "string"}, "preferred": {"type": "string", "enum": ["A", "B"]}},
    "required": ["comparison", "preferred"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("setting", ["auto", "required"])
def test_structured_output(judge_server, make_judge, make_items, right_verdicts, setting: str):
    items = make_items(3)
    judge_server.script = lambda post, attempt: '{"comparison": "One is shorter.", "preferred": "{}"}'

    assert make_judge(structured_output=setting).judge(items) == right_verdicts(items)
    formats = [body["response_format"] for body in judge_server.bodies]
    verdict = {"name": "verdict", "strict": True, "schema": SCHEMA}
    assert formats == [{"type": "json_schema", "json_schema": verdict}] * 3


def test_structured_output_of_the_verdict_alone(judge_server, make_judge, make_items):
    judge_server.script = lambda post, attempt: '{"preferred": "tie"}'

    assert make_judge(structured_output="auto", compare_first=False, allow_ties=True).judge(make_items(1)) == ["tie"]
    (body,) = judge_server.bodies
    properties = {"preferred": {"type": "string", "enum": ["A", "B", "tie"]}}
    assert body["response_format"]["json_schema"]["schema"]["properties"] == properties


def test_an_endpoint_without_structured_output(judge_server, make_judge, make_items, right_verdicts, capsys):
    """`auto` asks for text from then on and says so once; `required` stops."""
    items = make_items(20)
    refusal = {"status": 400, "body": {"error": {"message": "response_format is not supported"}}}
    judge_server.script = lambda post, attempt: refusal if "response_format" in judge_server.bodies[-1] else "{}"
    judge = make_judge(structured_output="auto", concurrency=1)

    assert judge.judge(items) == right_verdicts(items)
    assert judge.usage.requests == 21
    assert capsys.readouterr().err.count("no structured output there (400 ") == 1

    with pytest.raises(ResourceError, match=r"not supported.*; try judge\.openai\.structured_output=off"):
        make_judge(structured_output="required").judge(items)


def test_like_azure(judge_server, make_judge, make_items, right_verdicts, monkeypatch, tmp_path: Path):
    """Its path and query, its header and no other for the key, which it quotes and which stays secret."""
    monkeypatch.setenv("AZURE_KEY", KEY)
    items = make_items(2)
    judge_server.script = lambda post, attempt: f"{KEY} says\nPreferred: {{}}"
    base_url = judge_server.base_url.replace("/v1", "/openai/deployments/judge")
    headers, query = {"api-key": "env:AZURE_KEY"}, {"api-version": "2024-10-21"}
    judge = make_judge(base_url=base_url, extra_headers=headers, extra_query=query)

    assert judge.judge(items) == right_verdicts(items)
    path, sent = judge_server.requests[0]
    assert path == "/openai/deployments/judge/chat/completions?api-version=2024-10-21"
    assert sent["api-key"] == KEY and "authorization" not in sent
    assert KEY not in "".join(path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file())
    assert {answer.text[:3] for answer in judge.cache.get(list(judge._labels)).values()} == {"***"}

    monkeypatch.delenv("AZURE_KEY")
    with pytest.raises(ConfigError, match=r"^judge\.openai\.extra_headers\.api-key names AZURE_KEY, which is not set"):
        make_judge(extra_headers=headers)


def test_like_openrouter(judge_server, make_judge, make_items):
    """Its own fields go into the body, and what its moderation will not show is a refusal like any other."""
    moderated = {"error": {"code": 403, "message": "Your chosen model requires moderation and your input was flagged"}}
    judge_server.script = lambda post, attempt: {"status": 403, "body": moderated} if post == "post 0" else "{}"
    extra = {"provider": {"allow_fallbacks": False}, "reasoning": {"effort": "low"}}
    judge = make_judge(extra_body=extra, extra_headers={"X-Title": "judge"})

    assert judge.judge(make_items(2)) == ["unparsed", "a"]
    assert judge.usage.filtered == judge.usage.unparsed == 1
    assert all(
        body["provider"] == extra["provider"] and body["reasoning"] == extra["reasoning"]
        for body in judge_server.bodies
    )
    assert judge_server.requests[0][1]["x-title"] == "judge"


def test_waits_double_with_jitter(judge_server, make_judge, make_items, monkeypatch):
    judge_server.script = lambda post, attempt: "500" if attempt < 3 else "{}"
    judge = make_judge(retry_wait_s=0.2)
    asked: list[float] = []
    wait = judge._wait
    monkeypatch.setattr(judge, "_wait", lambda delay: asked.append(delay) or wait(delay))
    judge.judge(make_items(1))

    (times,) = judge_server.arrivals.values()
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    delays = [delay for delay in asked if delay]
    for waited, delay, longest in zip(waits, delays, (0.2, 0.4, 0.8), strict=True):
        assert longest / 2 <= delay <= longest
        assert waited >= delay  # how much longer is the machine's affair


def test_a_server_that_wants_long_waits_ends_the_run(judge_server, make_judge, make_items):
    judge_server.script = lambda post, attempt: "429:3600"

    with pytest.raises(
        ResourceError,
        match=r"asks to come back in 3600 s; wait, or raise judge\.openai\.max_wait_s \(600 now\); 0 of the 1 verdicts",
    ):
        make_judge().judge(make_items(1))


def test_no_answer_after_all_attempts(judge_server, make_judge, make_items, right_verdicts, cache):
    """The run ends with one line; what was answered is kept, nothing is guessed, the same command goes on."""
    items = make_items(20)
    judge_server.script = lambda post, attempt: "503" if post == "post 13" else "{}"
    judge = make_judge(max_attempts=3, concurrency=1)

    with pytest.raises(ResourceError) as failure:
        judge.judge(items)

    message = str(failure.value)
    assert "no answer from http://127.0.0.1" in message and "in 3 attempts, the last one: 503" in message
    assert f"; 13 of the 20 verdicts asked for are kept in {cache.path}, and the same command goes on" in message
    assert "\n" not in message and failure.value.exit_code == 1
    assert judge_server.attempts[question(items[13])] == 3

    judge_server.script = lambda post, attempt: "{}"
    again = make_judge()
    assert again.judge(items) == right_verdicts(items)
    assert again.usage.cached == 13 and again.usage.requests == 7


def test_answers_on_their_way_are_kept_when_another_fails(judge_server, make_judge, make_items):
    items = make_items(8)
    judge_server.script = lambda post, attempt: ("500", "400")[attempt] if post == "post 0" else "slow:1.5"

    with pytest.raises(ResourceError, match=r"refuses: 400 .*; 7 of the 8 verdicts asked for are kept"):
        make_judge(concurrency=8, retry_wait_s=0.5).judge(items)


def test_a_prompt_that_the_endpoint_filters_is_unparsed(judge_server, make_judge, make_items):
    """It would be filtered again, and the others need not wait for it."""
    judge_server.script = lambda post, attempt: "filter" if post == "post 1" else "{}"

    judge = make_judge()

    assert judge.judge(make_items(3)) == ["b", "unparsed", "b"]
    assert judge_server.attempts.total() == 3 and judge.usage.unparsed == 1


def test_nobody_listens(make_judge, make_items):
    with pytest.raises(ResourceError, match=r"no answer from http://127\.0\.0\.1:1 in 2 attempts, the last one: Conn"):
        make_judge(base_url="http://127.0.0.1:1", max_attempts=2).judge(make_items(3))


def test_what_it_will_cost_is_said_first(judge_server, make_judge, make_items, capsys):
    judge = make_judge(price_per_million_prompt_tokens=1000.0, price_per_million_completion_tokens=10_000.0)
    items = make_items(30)
    judge.judge(items[:10])
    capsys.readouterr()

    judge.judge(items)

    line = capsys.readouterr().err.splitlines()[0]
    tokens = [judge._prompt_tokens(item) for item in items[10:]]
    assert 100 < tokens[0] < 400  # of about 800 characters
    dollars = sum(tokens) / 1000 + 20 * 128 / 100
    assert line == (
        f"judge openai (m at {judge_server.base_url}): 20 requests, about {sum(tokens):,} tokens of prompt and at most"
        f" 2,560 of answers, about {dollars:.2f} $ at most; 0 verdicts are in the cache"
    )


def test_a_budget_that_is_too_small_is_refused_before_the_first_request(judge_server, make_judge, make_items):
    with pytest.raises(ConfigError, match=r"^judge\.openai\.max_requests=9 is less than the estimated 10; raise it"):
        make_judge(max_requests=9).judge(make_items(10))
    with pytest.raises(ConfigError, match=r"^judge\.openai\.max_tokens=2000 is less than the estimated [\d,]+; raise"):
        make_judge(max_tokens=2000).judge(make_items(10))
    assert judge_server.attempts.total() == 0

    make_judge(max_requests=10).judge(make_items(10))
    assert judge_server.attempts.total() == 10


def test_a_budget_that_reality_exceeds_stops_the_run(judge_server, make_judge, make_items, right_verdicts):
    """Repeated requests are counted, so that the limit holds whatever the server does."""
    items = make_items(10)
    judge_server.script = lambda post, attempt: "500" if attempt == 0 else "{}"

    with pytest.raises(ResourceError, match=r"max_requests=15 is used up; raise it; 7 of the 10 verdicts"):
        make_judge(max_requests=15, concurrency=1).judge(items)
    assert judge_server.attempts.total() == 15

    assert make_judge(max_requests=15).judge(items) == right_verdicts(items)


def test_tokens_are_counted_as_the_server_counts_them(judge_server, make_judge, make_items):
    """The estimate fits the limit; the server counts more for each."""
    items = make_items(10)
    judge = make_judge(max_answer_tokens=1)
    estimates = [judge._prompt_tokens(item) + 1 for item in items]
    estimated = sum(estimates)
    judge_server.prompt_tokens = estimated // 4
    # the fourth answer leaves less than a quarter of the budget less four completion tokens: the fifth does not fit
    assert 3 * (estimated // 4 + 5) + estimates[3] <= estimated < 4 * (estimated // 4 + 5) + estimates[4]

    with pytest.raises(ResourceError, match=r"max_tokens=\d+ is used up; raise it; 4 of the 10 verdicts"):
        make_judge(max_answer_tokens=1, concurrency=1, max_tokens=estimated).judge(items)


def test_the_key_reaches_the_server_and_nothing_else(
    judge_server, make_judge, make_items, cache, monkeypatch, capsys, caplog, tmp_path
):
    """Not an error whose server quotes it, not the cache of an answer that does, not a log, not a traceback."""
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n")
    caplog.set_level(logging.DEBUG)
    items = make_items(3)
    judge_server.script = lambda post, attempt: f"The key is {KEY}.\nPreferred: {{}}"
    judge = make_judge(api_key_env="JUDGE_KEY")
    judge.judge(items[:1])
    judge_server.script = lambda post, attempt: "401"
    with pytest.raises(ResourceError, match=r"refuses: 401 .*refused, Bearer \*\*\*") as refused:
        judge.judge(items)
    judge_server.script = lambda post, attempt: "500"
    with pytest.raises(ResourceError) as failed:
        make_judge(api_key_env="JUDGE_KEY", max_attempts=2).judge(items)

    assert judge_server.authorizations == {f"Bearer {KEY}"}
    captured = capsys.readouterr()
    seen = [captured.out, captured.err, caplog.text, repr(judge._config)]
    seen += ["".join(traceback.format_exception(error.value)) for error in (refused, failed)]
    seen += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(cache.path.read_bytes()) > 0 and "The key is ***." in str(cache.get(list(judge._labels)))
    for text in seen:
        assert KEY not in text and "SECRET" not in text


def test_no_key_is_sent_where_none_is_named(judge_server, make_judge, make_items, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    make_judge().judge(make_items(1))

    assert judge_server.authorizations == {None}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", r"^judge\.openai\.api_key_env names JUDGE_KEY, which is not set; export it, or set .*=null"),
        ("two words", r"^the environment variable JUDGE_KEY holds characters that no key has"),
        ("schlüssel", r"^the environment variable JUDGE_KEY holds characters that no key has"),
    ],
)
def test_a_key_that_is_none(make_judge, monkeypatch, value, message):
    monkeypatch.setenv("JUDGE_KEY", value)

    with pytest.raises(ConfigError, match=message) as refused:
        make_judge(api_key_env="JUDGE_KEY")
    assert not value or value not in str(refused.value)


def test_an_interrupted_run_keeps_its_answers(judge_server, make_judge, make_items, cache, monkeypatch):
    """Ctrl-C stops what has not been sent and lets in what has."""
    judge_server.script = lambda post, attempt: "slow:0.2"
    judge = make_judge(concurrency=2)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.evaluate.judges.openai_compatible.StageBar.update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        judge.judge(make_items(50))

    assert 1 <= judge_server.answered.total() <= 4
    assert len(cache.get(list(judge._labels))) == judge_server.answered.total()
