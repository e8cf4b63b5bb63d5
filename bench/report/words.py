"""Names and numbers as the reports write them, and texts made safe to show."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.arms import BY_NAME, REFERENCE

_REFERENCE_NAMES = ("Reference", "the reference summary")
_STAGE_NAMES = {"reward": "Reward model", "judge_reward": "Judge's reward model"}
_JUDGE_NAMES = {"gold": "gold judge", "reward_model": "reward-model judge"}
_NONCHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
"""XML, so SVG, has no way to hold them."""
_HIDDEN = re.compile(
    # controls but for line feed and tab; bidirectional controls; surrogates
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff" + _NONCHARACTERS + "]"
)
NONE = "–"  # noqa: RUF001 - the dash of an empty cell


Row = Mapping[str, Any]
"""One row of a table of load.py: an estimate `x` with `x_low`, `x_high` and `x_n`."""


class Cell(NamedTuple):
    """A table cell: its text, the interval under it, and a tone for verdicts (good, bad, open)."""

    text: str
    interval: str = ""
    tone: str = ""


class TimeUnit(NamedTuple):
    """How times are written: the unit's sign, how many of it an hour has, decimals."""

    sign: str
    per_hour: float
    digits: int

    def write(self, hours: float) -> str:
        return number(hours * self.per_hour, self.digits)


_SECONDS, _MINUTES, _HOURS = TimeUnit("s", 3600.0, 1), TimeUnit("min", 60.0, 2), TimeUnit("h", 1.0, 2)


def arm_name(arm: str, short: bool = False) -> str:
    known = BY_NAME.get(arm)
    names = (known.label, known.in_words) if known else _REFERENCE_NAMES if arm == REFERENCE else (plain(arm),) * 2
    return names[0] if short else names[1]


def stage_name(stage: str) -> str:
    """A stage that makes an arm's policy has the arm's name."""
    return _STAGE_NAMES.get(stage) or arm_name(stage, short=True)


def judge_name(judge: str) -> str:
    return _JUDGE_NAMES.get(judge, f"judge {plain(judge)}")


def plain(text: object) -> str:
    """`text` with control characters, bidirectional controls, surrogates, noncharacters written as \\uXXXX.

    Line feeds and tabs stay. What is left cannot break a file's encoding or reorder the text around it.
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text).replace("\r\n", "\n"))


def is_number(value: Any) -> bool:
    """False for what a table holds where nothing was measured: None or NaN."""
    return value is not None and value == value


def has(rows: Iterable[Row], column: str) -> bool:
    """Whether any row has a number in `column`."""
    return any(is_number(row.get(column)) for row in rows)


def number(value: float, digits: int | None = None) -> str:
    """`digits` decimals, or three significant digits (without exponent for numbers of everyday size)."""
    if digits is None and value != 0:
        if not 1e-3 <= abs(value) < 1e6:
            return f"{value:.2e}"
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
    digits = 2 if digits is None else digits
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no -0.00


def count(value: Any) -> str:
    """A whole number with thousands separated; a dash where there is none."""
    return f"{int(value):,}" if is_number(value) else NONE


def estimate(row: Row, column: str, digits: int | None = None) -> Cell:
    """The estimate in `column` with its interval; a dash where nothing was measured."""
    return _estimate(row, column, 1, digits, "")


def share(row: Row, column: str, with_n: bool = False) -> Cell:
    """`estimate` for a share of prompts or pairs, in per cent; n stands beside the interval if asked for."""
    cell = _estimate(row, column, 100, 1, " %")
    n = row.get(f"{column}_n")
    return cell._replace(interval=f"{cell.interval} n {count(n)}".strip()) if with_n and is_number(n) else cell


def points(row: Row, column: str) -> Cell:
    """`estimate` for a difference of two shares, in points of per cent."""
    return _estimate(row, column, 100, 1, "")


def time_unit(hours: Iterable[float]) -> TimeUnit:
    """The unit in which the longest of them has a handy size."""
    longest = max(hours, default=0.0)
    return _SECONDS if longest < 2 / 60 else _MINUTES if longest < 2 else _HOURS


def in_words(row: Row, column: str) -> str:
    """A share with its interval in a sentence: `62.0 % [55.1, 68.6]`."""
    cell = share(row, column)
    return f"{cell.text} {cell.interval}".strip()


def difference_in_words(value: float, ci95: Sequence[float], first: str, second: str, over: str = "") -> str:
    """`3.0 points [1.0, 5.0]: DPO is better`, of a difference of two shares, the first's less the second's; `over`
    stands behind the interval."""
    low, high = ci95
    verdict = f"{first} is better" if low > 0 else f"{second} is better" if high < 0 else "not decided at this n"
    return f"{number(100 * value, 1)} points [{number(100 * low, 1)}, {number(100 * high, 1)}]{over}: {verdict}"


def n_in_words(ns: Iterable[float], of: str = "posts") -> str:
    """`256 posts`, or `250 to 256 posts` where the counts differ."""
    known = sorted(set(ns))
    if not known:
        return f"n {of} not known"
    ends = count(known[0]) if len(known) == 1 else f"{count(known[0])} to {count(known[-1])}"
    return f"{ends} {of}"


def seeds_in_words(n: int) -> str:
    return f"{n} seed{'s' if n > 1 else ''}"


def strength(row: Row) -> str:
    """How hard a policy of `policies.policy_points` is held to the SFT model: `beta 0.3`, `KL target 6`, or nothing."""
    if is_number(row.get("kl_target")):
        return f"KL target {row['kl_target']:g}"
    return f"beta {row['beta']:g}" if is_number(row.get("beta")) else ""


def setting_in_words(settings: Mapping[str, Any]) -> str:
    """`beta 0.3, learning_rate 0.0001` of settings by their dotted names; PPO's target as what it is."""
    parts = []
    for key, value in settings.items():
        name = "KL target" if key == "ppo.kl_target" else key.partition(".")[2]
        if value is not None:
            parts.append(f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {plain(value)}")
    return ", ".join(parts) or "as given"


def ratio_bin(row: Row) -> str:
    """A bin of length ratios: below 0.5, 0.5 to 0.8, 2 and more."""
    if not is_number(row["below"]):
        return f"{row['from']:g} and more"
    return f"{row['from']:g} to {row['below']:g}" if row["from"] > 0 else f"below {row['below']:g}"


def _estimate(row: Row, column: str, scale: float, digits: int | None, unit: str) -> Cell:
    value, low, high = (row.get(name) for name in (column, f"{column}_low", f"{column}_high"))
    if value is None or not is_number(value):
        return Cell(NONE)
    text = f"{number(scale * value, digits)}{unit}"
    if low is None or high is None or not (is_number(low) and is_number(high)):
        return Cell(text)
    if low == high:
        return Cell(text, "all equal")
    ends = [number(scale * end, digits) for end in (low, high)]
    if ends[0] == ends[1]:  # an interval is no point: three significant digits
        ends = [number(scale * end) for end in (low, high)]
    return Cell(text, f"[{', '.join(ends)}]")
