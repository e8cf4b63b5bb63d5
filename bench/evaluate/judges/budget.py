"""What a judge may still spend."""

import threading

from bench.errors import ConfigError, ResourceError
from bench.evaluate.judges.config import OpenAIJudgeConfig


class RequestBudget:
    """Requests and tokens that may still be spent. What is on its way counts as spent until it is settled.

    Args:
        key: where the limits are, for messages: `judge.openai`.
    """

    def __init__(self, config: OpenAIJudgeConfig, key: str) -> None:
        self._key = key
        self._limits = {"max_requests": config.max_requests, "max_tokens": config.max_tokens}
        self._spent = {"max_requests": 0, "max_tokens": 0}
        self._lock = threading.Lock()

    def require_room(self, requests: int, tokens: int) -> None:
        """Refuse, before the first request, what is estimated not to fit."""
        if (short := self._short(requests, tokens)) is not None:
            raise ConfigError(
                f"{self._key}.{short[0]}={short[1]} is less than the estimated {short[2]:,}; raise it, or ask for"
                " less with budget.eval_prompts or judge.orders=one"
            )

    def reserve(self, tokens: int) -> None:
        """Take one request and its tokens out of the budget."""
        with self._lock:
            if (short := self._short(1, tokens)) is not None:
                raise ResourceError(f"the budget {self._key}.{short[0]}={short[1]} is used up; raise it")
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
