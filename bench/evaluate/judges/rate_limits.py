"""How long a server asks to wait, from its headers."""

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_RESETS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
"""(what is left of a limit, when it is whole again), of OpenAI, Azure, vLLM's and LiteLLM's proxies, OpenRouter."""
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_EPOCH_S, _EPOCH_MS = 1e9, 1e11  # from here on a number is a date in seconds, in milliseconds


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until the server wants to be asked again; None where it does not say.

    `retry-after-ms` and Retry-After come first (RFC 9110, 10.2.3), then the resets of those limits of which nothing is
    left, or of which it is not said how much is; the last of them counts.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(milliseconds / 1000, 0.0)
    if (seconds := parse_retry_after(headers.get("retry-after"))) is not None:
        return seconds
    resets = [parse_reset(headers.get(reset)) for left, reset in _RESETS if (_number(headers.get(left)) or 0) <= 0]
    return max((reset for reset in resets if reset is not None), default=None)


def parse_retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or an HTTP date; None where it says nothing."""
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


def parse_reset(value: str | None) -> float | None:
    """Seconds until a limit is whole: `20ms`, `6m0s`, a number of seconds, or a date as seconds or milliseconds."""
    text = (value or "").strip().lower()
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    number = _number(text)
    if number is None:
        return None
    if number >= _EPOCH_S:
        number = (number / 1000 if number >= _EPOCH_MS else number) - time.time()
    return max(number, 0.0)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
