"""The judge behind an OpenAI-compatible endpoint: OpenAI itself, vLLM, llama.cpp, `transformers serve`, ..."""

import math
import random
import re
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from bench.errors import ResourceError
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.budget import RequestBudget
from bench.evaluate.judges.cache import Answer, VerdictCache
from bench.evaluate.judges.config import OpenAIJudgeConfig
from bench.evaluate.judges.endpoint import Endpoint
from bench.evaluate.judges.rate_limits import seconds_to_wait
from bench.evaluate.judges.reply import NoReply
from bench.evaluate.judges.template import answer_format, load_template
from bench.progress import StageBar, say

_BYTES_PER_TOKEN = 3  # plain English has 4, the tags and other languages fewer: the estimate errs upwards
_MAX_BACKOFF_S = 60.0
_TOO_MANY = 429
_WORTH_REPEATING = {408, 409, 425, _TOO_MANY}  # and everything from 500 on, and what has no status
_OUT_OF_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
_SAYS_NO_MONEY = re.compile("|".join(_OUT_OF_MONEY) + r"|insufficient (?:balance|credits?|funds)", re.IGNORECASE)
"""For endpoints that give their error no code."""
_FILTERED = {"content_filter", "content_policy_violation"}  # codes for a prompt that no model is shown
_FLAGGED = re.compile(r"moderation|flagged", re.IGNORECASE)  # with 403, OpenRouter's words for the same
_NO_STRUCTURE = re.compile(r"response_format|json_schema|structured|guided|grammar", re.IGNORECASE)
_HINTS = {
    r"max_completion_tokens": "token_limit_name=max_completion_tokens",
    r"temperature": "temperature=null",
    r"system|developer|roles must alternate": "system_role=user",
    r"response_format|json_schema": "structured_output=off",
}
"""What a refusal speaks of -> the setting to try."""
_ADVICE = {
    "cut_off": "raise {key}.max_answer_tokens ({limit} now): a model that thinks before it answers needs thousands",
    "refused": "the model will not judge these texts: choose another ({key}.model) or another prompt ({key}.prompt)",
    "filtered": "the endpoint keeps these texts from the model: loosen its filter or choose another ({key}.base_url)",
    "unfinished": "the endpoint does not say that its answers are finished (finish_reason), so none is read: choose"
    " another ({key}.base_url)",
}


class OpenAIJudge(AskingJudge):
    """Asks with bounded concurrency and patience, within a budget that is announced first.

    A request is repeated after 5xx, a timeout, a broken connection, a body that is no chat completion, an error in an
    answer's place or an empty answer, when `retry_wait_s`, doubled each time and with jitter, has passed and the
    server's Retry-After too. At 429 all wait as long as the server says, or as long as doubling takes, and it counts
    against `max_wait_s` instead of `max_attempts`. An answer is stored as it arrives and parsed strictly
    (`parse_answer`); nothing is ever guessed or dropped.

    Raises:
        ConfigError: an environment variable that should hold a secret is empty.
    """

    def __init__(
        self, config: OpenAIJudgeConfig, cache: VerdictCache, name: str = "openai", key: str = OpenAIJudgeConfig.home
    ) -> None:
        how = answer_format(config.compare_first, config.allow_ties)
        template = load_template(config.prompt, f"{key}.prompt", how, config.system_role, config.verbatim)
        self._endpoint = Endpoint(config, key)
        # The endpoint is part of who answers: local servers often take any model name.
        asked = {
            "judge": "openai",
            "model": config.model,
            "base_url": self._endpoint.url,
            **{name: dict(getattr(config, name) or {}) for name in ("extra_headers", "extra_query", "extra_body")},
            "system_role": config.system_role,
            "structured_output": config.structured_output,
            "temperature": config.temperature,
            "max_answer_tokens": config.max_answer_tokens,
        }
        reading = "text_or_tie" if config.allow_ties else "text"
        super().__init__(name, key, template.hash, cache, asked, reading, config.max_unparsed_in_a_row)
        self._config, self._template = config, template
        self._frame = "".join(message["content"] for message in template.messages(JudgeItem("", "", "", "")))
        self._budget = RequestBudget(config, key)
        self._jitter = random.Random()  # its own: training draws from the global one
        self._is_structured = config.structured_output != "off"
        self._resume_at = 0.0  # on the monotonic clock: the server has asked everyone to wait until then
        self._last_answer_at = 0.0
        self._stop = threading.Event()

    def advice(self, answer: Answer) -> str:
        if answer.outcome == "finished" and not answer.text:
            return f"the model says nothing: look at {self.key}.model and {self.key}.extra_body"
        other = (
            'an answer must end in Preferred: "A" or "B": try {key}.structured_output=auto, {key}.compare_first=false,'
            " a stronger model ({key}.model), or another prompt ({key}.prompt)"
        )
        return _ADVICE.get(answer.outcome, other).format(key=self.key, limit=self._config.max_answer_tokens)

    def ask(self, questions: Mapping[str, JudgeItem]) -> None:
        self._announce(questions)
        self._stop.clear()
        self._last_answer_at = time.monotonic()
        pool = ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="judge")
        try:
            futures = [pool.submit(self._answer_or_stop, key, item) for key, item in questions.items()]
            with StageBar(f"judge {self.name}", len(questions), "verdicts") as bar:
                for future in as_completed(futures):
                    future.result()
                    bar.update(1, unparsed=self.usage.unparsed)
        except ResourceError as error:
            pool.shutdown(cancel_futures=True)  # first let in what is on its way: it is paid for
            raise self.stopped(error, questions) from None
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
        messages = self._template.messages(item)
        reserved = self._prompt_tokens(item) + self._config.max_answer_tokens
        requests = failures = refusals = 0
        delay, failure = 0.0, NoReply("")
        while failures < self._config.max_attempts:
            if not self._wait(delay):
                return
            self._budget.reserve(reserved)
            with self._counting:
                self.usage.requests += 1
                self.usage.retries += requests > 0
            requests += 1
            is_structured = self._is_structured
            try:
                reply = self._endpoint.send(messages, **self._settings(is_structured))
            except NoReply as error:
                failure = error
            else:
                used = reply.tokens or (reserved - self._config.max_answer_tokens, 0)
                self._budget.settle(reserved, sum(used))
                self._last_answer_at = time.monotonic()
                self.keep(key, Answer(reply.text, reply.outcome), *used)
                return
            self._settle_failure(failure, reserved)
            if self._is_filtered(failure):  # a refusal like any other, of the endpoint instead of the model
                self.keep(key, Answer(failure.problem, "filtered"), 0, 0)
                return
            if is_structured and self._goes_on_without_structure(failure):
                continue
            self._require_worth_repeating(failure)
            if failure.status == _TOO_MANY:
                self._hold_all(failure, self._backoff(refusals))
                refusals += 1
                continue
            self._hold_all(failure, 0.0)
            delay = self._backoff(failures)
            failures += 1
        if failure.is_empty:
            self.pass_over(key)
            return
        raise ResourceError(
            f"no answer from {self._config.base_url} in {failures} attempts, the last one: {_clean(failure.problem)}"
        )

    def _wait(self, delay: float) -> bool:
        """Wait for this question's delay and for the server's; False where the judge has been stopped."""
        if self._stop.wait(delay):
            return False
        while (left := self._resume_at - time.monotonic()) > 0:
            if self._stop.wait(left):
                return False
        return not self._stop.is_set()

    def _backoff(self, times: int) -> float:
        return min(self._config.retry_wait_s * 2**times, _MAX_BACKOFF_S) * self._jitter.uniform(0.5, 1)

    def _hold_all(self, failure: NoReply, otherwise: float) -> None:
        """Let nobody ask before the time that the server says, or for `otherwise` seconds where it says none.

        Raises:
            ResourceError: nobody will have had an answer for longer than `max_wait_s` then.
        """
        asked = seconds_to_wait(failure.headers) if failure.status is not None else None
        seconds = otherwise if asked is None else asked
        now, limit = time.monotonic(), self._config.max_wait_s
        if asked is not None and asked > limit:
            raise ResourceError(
                f"{self._config.base_url} asks to come back in {asked:.0f} s; wait, or raise {self.key}.max_wait_s"
                f" ({limit:g} now)"
            )
        if failure.status == _TOO_MANY and now + seconds - self._last_answer_at > limit:
            raise ResourceError(
                f"{self._config.base_url} has given no answer for {now - self._last_answer_at:.0f} s:"
                f" {_clean(failure.problem)}; wait, or raise {self.key}.max_wait_s ({limit:g} now)"
            )
        self._resume_at = max(self._resume_at, now + seconds)

    def _settle_failure(self, failure: NoReply, reserved: int) -> None:
        """What a request without an answer has cost: a refused one nothing, a lost one perhaps all of it."""
        if failure.tokens is not None:
            self._budget.settle(reserved, sum(failure.tokens))
            with self._counting:
                self.usage.prompt_tokens += failure.tokens[0]
                self.usage.completion_tokens += failure.tokens[1]
        elif failure.status is not None:
            self._budget.settle(reserved, 0)

    def _is_filtered(self, failure: NoReply) -> bool:
        return bool(_FILTERED & set(failure.codes)) or (
            failure.status == 403 and _FLAGGED.search(failure.problem) is not None
        )

    def _goes_on_without_structure(self, failure: NoReply) -> bool:
        """Whether the endpoint has no structured output, and the config can do without it."""
        is_refused = failure.status in (400, 404, 422, 501) and _NO_STRUCTURE.search(failure.problem) is not None
        if not is_refused or self._config.structured_output != "auto":
            return False
        with self._counting:
            if self._is_structured:
                say(f"judge {self.name}: no structured output there ({_clean(failure.problem)}); asking for text")
            self._is_structured = False
        return True

    def _require_worth_repeating(self, failure: NoReply) -> None:
        """Raise ResourceError where the same request would fail again."""
        problem = f"{self._config.base_url} refuses: {_clean(failure.problem)}"
        if _OUT_OF_MONEY & set(failure.codes) or _SAYS_NO_MONEY.search(failure.problem):
            raise ResourceError(f"{problem}; the account cannot pay for more requests")
        if failure.status is None or failure.status >= 500 or failure.status in _WORTH_REPEATING:
            return
        hints = [f"{self.key}.{hint}" for about, hint in _HINTS.items() if re.search(about, failure.problem, re.I)]
        is_about_the_request = failure.status in (400, 404, 422) and hints
        raise ResourceError(f"{problem}; try {' or '.join(hints)}" if is_about_the_request else problem)

    def _settings(self, is_structured: bool) -> dict[str, Any]:
        settings: dict[str, Any] = {self._config.token_limit_name: self._config.max_answer_tokens}
        if self._config.temperature is not None:
            settings["temperature"] = self._config.temperature
        if is_structured:
            settings["response_format"] = _response_format(self._config.compare_first, self._config.allow_ties)
        return settings

    def _prompt_tokens(self, item: JudgeItem) -> int:
        texts = (self._frame, item.prompt, item.first, item.second)
        return math.ceil(sum(len(text.encode("utf-8", "replace")) for text in texts) / _BYTES_PER_TOKEN)


def _response_format(compare_first: bool, allow_ties: bool) -> dict[str, Any]:
    """The answer format as a JSON schema: a comparison, if one comes first, and the letter."""
    properties: dict[str, Any] = {"comparison": {"type": "string"}} if compare_first else {}
    properties["preferred"] = {"type": "string", "enum": ["A", "B", *(["tie"] if allow_ties else [])]}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def _clean(text: str) -> str:
    """A server's words as part of one line."""
    return " ".join(text.split())[:300]
