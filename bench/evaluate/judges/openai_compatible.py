"""The judge behind an OpenAI-compatible endpoint: OpenAI itself, vLLM, llama.cpp, `transformers serve`, ..."""

import json
import math
import os
import random
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from bench.errors import ConfigError, ResourceError
from bench.evaluate.judges.answer import parse_answer
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.cache import VerdictCache
from bench.evaluate.judges.config import OpenAIJudgeConfig
from bench.evaluate.judges.template import COMPARE_FIRST, VERDICT_ONLY, load_template
from bench.progress import StageBar
from bench.records import VerdictLabel

_BYTES_PER_TOKEN = 3  # plain English has 4, the tags and other languages fewer: the estimate errs upwards
_MAX_BACKOFF_S = 60.0
_MAX_RETRY_AFTER_S = 600.0
_SHORTEST_SECRET = 8  # characters; shorter ones ("none", "EMPTY") are placeholders
_FILTERED = "content_filter"  # error code of OpenAI and Azure for a prompt that they will not show to the model
_WORTH_REPEATING = {408, 409, 425, 429}  # and everything from 500 on


class OpenAIJudge(AskingJudge):
    """Asks with bounded concurrency and patience, within a budget that is announced first.

    A request is repeated after 429, 5xx, a timeout, a broken connection or a body that is no chat completion, when
    `retry_wait_s`, doubled each time and with jitter, has passed and the server's Retry-After too. An answer is
    stored as it arrives and parsed strictly (`parse_answer`); nothing is ever guessed or dropped.

    Raises:
        ConfigError: the environment variable that should hold the key is empty.
    """

    def __init__(self, config: OpenAIJudgeConfig, cache: VerdictCache) -> None:
        answer_format = COMPARE_FIRST if config.compare_first else VERDICT_ONLY
        template = load_template(config.prompt, "judge.openai.prompt", answer_format)
        base_url = config.base_url.rstrip("/")
        # The endpoint is part of who answers: local servers often take any model name.
        asked = {
            "model": config.model,
            "base_url": base_url,
            "temperature": config.temperature,
            "max_answer_tokens": config.max_answer_tokens,
        }
        super().__init__("openai", template.hash, cache, asked)
        self._config, self._template = config, template
        self._frame = "".join(message["content"] for message in template.messages(JudgeItem("", "", "", "")))
        self._key = api_key(config)
        self._budget = _Budget(config)
        self._jitter = random.Random()  # its own: training draws from the global one
        self._client = openai.OpenAI(
            api_key=self._key or "none", base_url=base_url, timeout=config.timeout_s, max_retries=0
        )
        self._resume_at = 0.0  # on the monotonic clock: the server has asked everyone to wait until then
        self._stop = threading.Event()

    def read(self, answer: str) -> VerdictLabel:
        return parse_answer(answer)

    def ask(self, questions: Mapping[str, JudgeItem]) -> None:
        self._announce(questions)
        self._stop.clear()
        pool = ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="judge")
        try:
            futures = [pool.submit(self._answer_or_stop, key, item) for key, item in questions.items()]
            with StageBar(f"judge {self.name}", len(questions), "verdicts") as bar:
                for future in as_completed(futures):
                    future.result()
                    bar.update(1, unparsed=self.usage.unparsed)
        except ResourceError as error:
            pool.shutdown(cancel_futures=True)  # first let in what is on its way: it is paid for
            kept = sum(key in self._labels for key in questions)
            raise ResourceError(
                f"judge {self.name}: {error}; {kept} of the {len(questions)} verdicts asked for are kept in"
                f" {self.cache.path}, and the same command goes on from there"
            ) from None
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)

    def _announce(self, questions: Mapping[str, JudgeItem]) -> None:
        """Say what is about to be spent, and refuse to begin what the budget cannot finish."""
        config = self._config
        prompt = sum(self._prompt_tokens(item) for item in questions.values())
        completion = len(questions) * config.max_answer_tokens
        line = (
            f"judge {self.name} ({config.model} at {config.base_url}): {len(questions):,} requests,"
            f" about {prompt:,} tokens of prompt and at most {completion:,} of answers"
        )
        prices = config.price_per_million_prompt_tokens, config.price_per_million_completion_tokens
        if prices != (None, None):
            dollars = (prompt * (prices[0] or 0) + completion * (prices[1] or 0)) / 1e6
            line += f", about {dollars:,.2f} $ at most"
        print(f"{line}; {self.usage.cached:,} verdicts are in the cache", file=sys.stderr)
        self._budget.require_room(requests=len(questions), tokens=prompt + completion)

    def _answer_or_stop(self, key: str, item: JudgeItem) -> None:
        try:
            self._answer(key, item)
        except ResourceError:
            self._stop.set()  # here and not in `ask`: this thread would begin another question before that hears of it
            raise

    def _answer(self, key: str, item: JudgeItem) -> None:
        """Ask until there is an answer, and keep it."""
        messages: Any = self._template.messages(item)
        reserved = self._prompt_tokens(item) + self._config.max_answer_tokens
        problem, delay = "", 0.0
        for attempt in range(self._config.max_attempts):
            if not self._wait(delay):
                return
            self._budget.reserve(reserved)
            with self._counting:
                self.usage.requests += 1
                self.usage.retries += attempt > 0
            delay = min(self._config.retry_wait_s * 2**attempt, _MAX_BACKOFF_S) * self._jitter.uniform(0.5, 1)
            try:
                response = self._client.chat.completions.create(
                    model=self._config.model, messages=messages, **self._decoding()
                )
            except openai.APIStatusError as error:
                self._budget.settle(reserved, 0)
                said = error.message.removeprefix(f"Error code: {error.status_code} - ")
                problem = self._clean(f"{error.status_code} {said}")
                if error.code == _FILTERED:  # a refusal like any other, of the endpoint instead of the model
                    self.keep(key, _FILTERED, 0, 0)
                    return
                if error.status_code < 500 and error.status_code not in _WORTH_REPEATING:
                    raise ResourceError(f"{self._config.base_url} refuses: {problem}") from None
                self._hold_all(error.response.headers.get("retry-after"))
                continue
            except (openai.APIError, json.JSONDecodeError, UnicodeDecodeError) as error:
                # No connection, a timeout, a body that says it is JSON: what was reserved may have been spent.
                problem = self._clean(str(error))
                continue
            answer = _answer_text(response)
            if answer is None:
                problem = "the body is no chat completion"
                continue
            used = _tokens_used(response) or (reserved - self._config.max_answer_tokens, 0)
            self._budget.settle(reserved, sum(used))
            self.keep(key, self._without_key(answer), *used)
            return
        raise ResourceError(
            f"no answer from {self._config.base_url} in {self._config.max_attempts} attempts, the last one: {problem}"
        )

    def _wait(self, delay: float) -> bool:
        """Wait for this question's delay and for the server's; False where the judge has been stopped."""
        if self._stop.wait(delay):
            return False
        while (left := self._resume_at - time.monotonic()) > 0:
            if self._stop.wait(left):
                return False
        return not self._stop.is_set()

    def _hold_all(self, retry_after: str | None) -> None:
        """Let nobody ask before the time that the server's Retry-After says."""
        seconds = parse_retry_after(retry_after)
        if seconds is None:
            return
        if seconds > _MAX_RETRY_AFTER_S:
            raise ResourceError(f"{self._config.base_url} asks to come back in {seconds:.0f} s")
        self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def _decoding(self) -> dict[str, Any]:
        limit = {self._config.token_limit_name: self._config.max_answer_tokens}
        return limit if self._config.temperature is None else {**limit, "temperature": self._config.temperature}

    def _prompt_tokens(self, item: JudgeItem) -> int:
        texts = (self._frame, item.prompt, item.first, item.second)
        return math.ceil(sum(len(text.encode("utf-8", "replace")) for text in texts) / _BYTES_PER_TOKEN)

    def _clean(self, text: str) -> str:
        """A server's words as part of one line."""
        return " ".join(self._without_key(text).split())[:300]

    def _without_key(self, text: str) -> str:
        """Some servers quote the key that they refuse."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        return text.replace(self._key, "***") if self._key and len(self._key) >= _SHORTEST_SECRET else text


class _Budget:
    """Requests and tokens that may still be spent. What is on its way counts as spent until it is settled."""

    def __init__(self, config: OpenAIJudgeConfig) -> None:
        self._limits = {"max_requests": config.max_requests, "max_tokens": config.max_tokens}
        self._spent = {"max_requests": 0, "max_tokens": 0}
        self._lock = threading.Lock()

    def require_room(self, requests: int, tokens: int) -> None:
        """Refuse, before the first request, what is estimated not to fit."""
        if (short := self._short(requests, tokens)) is not None:
            raise ConfigError(
                f"judge.openai.{short[0]}={short[1]} is less than the estimated {short[2]:,}; raise it, or ask for"
                " less with budget.eval_prompts or judge.orders=one"
            )

    def reserve(self, tokens: int) -> None:
        """Take one request and its tokens out of the budget."""
        with self._lock:
            if (short := self._short(1, tokens)) is not None:
                raise ResourceError(f"the budget judge.openai.{short[0]}={short[1]} is used up; raise it")
            self._spent["max_requests"] += 1
            self._spent["max_tokens"] += tokens

    def settle(self, reserved: int, used: int) -> None:
        """Replace a request's reserved tokens by those it used."""
        with self._lock:
            self._spent["max_tokens"] += used - reserved

    def _short(self, requests: int, tokens: int) -> tuple[str, int, int] | None:
        """The limit that does not allow this much more: its name, itself, and the sum."""
        for name, more in (("max_requests", requests), ("max_tokens", tokens)):
            limit, total = self._limits[name], self._spent[name] + more
            if limit is not None and total > limit:
                return name, limit, total
        return None


def api_key(config: OpenAIJudgeConfig) -> str | None:
    """The key out of the environment; None where the server needs none.

    Raises:
        ConfigError: the variable is not set, or holds what cannot be a key.
    """
    name = config.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"judge.openai.api_key_env names {name}, which is not set; export it, or set judge.openai.api_key_env=null"
            " for a server that needs no key"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {name} holds characters that no key has; export it again")
    return key


def parse_retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or an HTTP date (RFC 9110, 10.2.3); None where it says nothing."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _answer_text(response: Any) -> str | None:
    """What the model said, "" for nothing; None where the body, which the client does not check, is no completion."""
    choices = getattr(response, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    if message is None:
        return None
    return str(getattr(message, "content", None) or getattr(message, "refusal", None) or "")


def _tokens_used(response: Any) -> tuple[int, int] | None:
    """(prompt, completion) tokens as the server counts them."""
    usage = getattr(response, "usage", None)
    prompt, completion = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    return (prompt, completion) if isinstance(prompt, int) and isinstance(completion, int) else None
