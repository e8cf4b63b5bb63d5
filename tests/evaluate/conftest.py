"""A judge's server on loopback that knows the truth and misbehaves as it is told."""

import asyncio
import json
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from aiohttp import web

from bench.evaluate.judges.base import JudgeItem

_FENCED = re.compile(r"<(post|summary_[ab])-([0-9a-f]{12})>\n(.*?)\n</\1-\2>", re.DOTALL)
_STALL_S = 4.0  # longer than the tests' timeouts

Behaviour = str | dict[str, Any]
"""An answer's format, a misdeed's name with its argument behind a colon, or a response: its `status` and `headers`, and
its `body`, or the `choice` (finish_reason, message, ...) and `usage` of a completion."""
Script = Callable[[str, int], Behaviour]
"""(post, attempt from 0) -> how to behave. In an answer or a response, {} is the right letter and {other} the other."""


class JudgeServer:
    """`/v1/chat/completions` in a thread. Of two summaries the better one contains "good".

    Attributes:
        script: what happens to each attempt; a format such as 'Preferred: "{}"' answers with the right letter.
        answered: (post, first, second) -> how often it was given an answer in full.
        attempts: the same -> how often it was asked.
        arrivals: the same -> when, on the event loop's clock.
        bodies, messages, requests: what was sent, in order: all but the messages, the messages, and path with query
            and headers.
    """

    def __init__(self) -> None:
        self.script: Script = lambda post, attempt: 'Preferred: "{}"'
        self.answered: Counter[tuple[str, str, str]] = Counter()
        self.attempts: Counter[tuple[str, str, str]] = Counter()
        self.arrivals: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self.bodies: list[dict] = []
        self.messages: list[list[dict]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.authorizations: set[str | None] = set()
        self.prompt_tokens = 100
        self.under_way = self.most_under_way = 0
        self._loop = asyncio.new_event_loop()
        self._ready, self._port = threading.Event(), 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._open())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())

    async def _open(self) -> None:
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_post("/openai/deployments/{name}/chat/completions", self._chat)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._behave(request)
        finally:
            self.under_way -= 1

    async def _behave(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.authorizations.add(request.headers.get("Authorization"))
        self.bodies.append({name: value for name, value in body.items() if name != "messages"})
        self.messages.append(body["messages"])
        self.requests.append((request.path_qs, {name.lower(): value for name, value in request.headers.items()}))
        texts = {name: text for name, _, text in _FENCED.findall(body["messages"][-1]["content"])}
        question = texts["post"], texts["summary_a"], texts["summary_b"]
        behaviour = self.script(question[0], self.attempts[question])
        self.attempts[question] += 1
        self.arrivals[question].append(self._loop.time())
        if isinstance(behaviour, dict):
            return self._respond(behaviour, question, body["model"])
        misdeed, _, argument = behaviour.partition(":")
        if misdeed.isdigit():
            headers = {"Retry-After": argument} if argument else {}
            error = {"error": {"message": f"refused, {request.headers.get('Authorization')}", "type": "x"}}
            return web.json_response(error, status=int(misdeed), headers=headers)
        if misdeed == "filter":
            return web.json_response({"error": {"message": "no", "code": "content_filter"}}, status=400)
        if misdeed == "stall":
            await asyncio.sleep(_STALL_S)
            raise web.HTTPGatewayTimeout
        if misdeed == "cut":
            return await self._cut(request)
        if misdeed == "no json":
            return web.Response(text="<html>busy</html>", content_type=argument or "text/html")
        if misdeed == "no choices":
            return web.json_response({"id": "x", "object": "chat.completion", "choices": []})
        if misdeed == "slow":
            await asyncio.sleep(float(argument))
            behaviour = 'Preferred: "{}"'
        self.answered[question] += 1
        return web.json_response(self._completion(behaviour, right_letter(*question[1:]), body["model"]))

    def _respond(self, behaviour: dict[str, Any], question: tuple[str, str, str], model: str) -> web.Response:
        """A response made to measure; what holds a choice without an error counts as an answer."""
        choice = behaviour.get("choice", {})
        body = behaviour.get("body")
        if body is None:
            body = self._completion("{}", "?", behaviour.get("model", model))
            body["choices"][0] |= choice
            body["usage"] = behaviour.get("usage", body["usage"])
        is_answer = "choice" in behaviour and "error" not in choice and not behaviour.get("is_failure")
        self.answered[question] += is_answer
        text = json.dumps(_filled(body, right_letter(*question[1:])))
        return web.Response(
            text=text,
            status=behaviour.get("status", 200),
            headers=behaviour.get("headers", {}),
            content_type="application/json",
        )

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        """Half an answer, and then the connection is gone."""
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    def _completion(self, answer: str, letter: str, model: str) -> dict:
        other = "A" if letter == "B" else "B"
        message = {"role": "assistant", "content": answer.replace("{}", letter).replace("{other}", other)}
        if answer == "refusal":
            message |= {"content": None, "refusal": "I will not judge this."}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": self.prompt_tokens, "completion_tokens": 5},
        }


def _filled(value: Any, letter: str) -> Any:
    """`value` with the letters put into its texts."""
    if isinstance(value, str):
        return value.replace("{}", letter).replace("{other}", "A" if letter == "B" else "B")
    if isinstance(value, dict):
        return {key: _filled(item, letter) for key, item in value.items()}
    return [_filled(item, letter) for item in value] if isinstance(value, list) else value


def right_letter(first: str, second: str) -> str:
    assert ("good" in first) != ("good" in second)
    return "A" if "good" in first else "B"


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_items() -> Callable[[int], list[JudgeItem]]:
    """make_items(n): n questions, half of them with the good summary first."""

    def make(n: int) -> list[JudgeItem]:
        summaries = [(f"good summary {i}", f"bad summary {i}") for i in range(n)]
        return [
            JudgeItem(f"p{i}", f"post {i}", *(pair if i % 2 else reversed(pair))) for i, pair in enumerate(summaries)
        ]

    return make


@pytest.fixture
def right_verdicts() -> Callable[[Sequence[JudgeItem]], list[str]]:
    return lambda items: [right_letter(item.first, item.second).lower() for item in items]
