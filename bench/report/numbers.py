"""Every number of finished runs in one long table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.report.load import Run, to_number
from bench.report.words import NONE, is_number, number

_OF_ESTIMATES = ("value", "ci95", "n")
_OF_REWARDS = ("reward", "gain", "fits")
"""Whose `gold` is no judge."""
_OF_CELLS = ("cell", "set", "temperature")
COLUMNS = ["run", "seed", "set", "temperature", "arm", "judge", "metric", "value", "low", "high", "n"]


def tidy(runs: Run | Sequence[Run]) -> pd.DataFrame:
    """Every number of the runs' metrics.json, a row each: run, seed, set, temperature, arm, judge, metric, value, low,
    high, n.

    `run` is the folder's name; `set` and `temperature` say on which posts and how it was sampled, of what hangs on
    neither they are the headline's; `arm` is an arm, a pair (`dpo_vs_ppo`) or empty, as `judge` is where none judged.
    `metric` is the place in metrics.json (results/README.md) without the names of arm and judge: `win_rate`,
    `rouge.rougeL`, `head_to_head.p_holm`, `cost.stages.ppo.wall_s`. `low` and `high` are the ends of the 95 % interval;
    they and `n` are NaN where there are none. True is 1 and false 0; texts are left out.
    """
    rows = [
        {"run": run.path.name, "seed": run.setting("seed")} | row
        for run in ([runs] if isinstance(runs, Run) else runs)
        for metrics, cell in _cells(run)
        for row in _rows(metrics, (), set(run.judges), {**cell, "arm": "", "judge": ""})
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def wide(numbers: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """The named metrics of `tidy` side by side, as text with their intervals: a row per arm or pair, of several runs or
    evaluations per run, set and temperature too.
    """
    rows = [row for row in numbers.to_dict("records") if row["metric"] in metrics]
    keys = [name for name in ("run", "set", "temperature") if len({row[name] for row in rows}) > 1]
    table: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: metrics.index(row["metric"])):
        column = f"{row['metric']}, {row['judge']}" if row["judge"] else row["metric"]
        cell = _with_interval(row["value"], row["low"], row["high"])
        table.setdefault(tuple(row[name] for name in ("arm", *keys)), {})[column] = cell
    named = [dict(zip(("arm", *keys), key, strict=True)) | cells for key, cells in table.items()]
    return pd.DataFrame(named).fillna(NONE).set_index(["arm", *keys])


def _with_interval(value: float, low: float, high: float) -> str:
    if not is_number(value):
        return NONE
    return number(value) if not is_number(low) else f"{number(value)} [{number(low)}, {number(high)}]"


def _cells(run: Run) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The metrics of the headline and of every other evaluation, and which it is."""
    for metrics, cell in (
        (run.metrics, run.metrics.get("cell", {})),
        *((of, of) for of in run.metrics.get("grid", [])),
    ):
        parts = {name: part for name, part in metrics.items() if name not in ("grid", *_OF_CELLS)}
        yield parts, {"set": cell.get("set", ""), "temperature": to_number(cell.get("temperature"))}


def _rows(value: Any, path: tuple[str, ...], judges: set[str], of: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The numbers in `value`, found at `path`; `of` says whose they are."""
    if isinstance(value, int | float):
        yield {**of, "metric": ".".join(path), "value": float(value)}
    elif isinstance(value, list):
        for place, item in enumerate(value):
            named = item.get("claim", item.get("accelerator", place)) if isinstance(item, Mapping) else place
            yield from _rows(item, (*path, str(named)), judges, of)
    elif isinstance(value, Mapping):
        if "value" in value:
            low, high = value.get("ci95") or (None, None)
            numbers = {"value": value["value"], "low": low, "high": high, "n": value.get("n")}
            yield {**of, "metric": ".".join(path)} | {name: to_number(number) for name, number in numbers.items()}
        key = _key(value, path, judges, of)
        for name, part in value.items():
            if "value" in value and name in _OF_ESTIMATES:
                continue
            if key:
                yield from _rows(part, () if path == ("arms",) else path, judges, {**of, key: name})
            else:
                yield from _rows(part, (*path, name), judges, of)


def _key(value: Mapping[str, Any], path: tuple[str, ...], judges: set[str], of: Mapping[str, str]) -> str:
    """Whether the names in `value` are arms or judges; empty for names of metrics."""
    of_arms = path in (("arms",), ("head_to_head",), ("in_training",)) or (path == ("bradley_terry",) and of["judge"])
    if of_arms and not of["arm"]:
        return "arm"
    of_judges = value and path and judges >= value.keys() and path[-1] not in _OF_REWARDS
    return "judge" if of_judges and not of["judge"] else ""
