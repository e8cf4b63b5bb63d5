"""Published numbers beside ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.evaluate.reproduction import (
    CONSISTENT,
    MARGIN,
    NOT_COMPARABLE,
    NOT_CONSISTENT,
    agreement,
    published_estimate,
    what_differs,
)
from bench.files import read_json
from bench.report.columns import Column, count_column, points_column, share_column, table_of
from bench.report.load import Run, estimate_columns, frame, records
from bench.report.page import Block
from bench.report.words import NONE, Cell, arm_name, judge_name

PUBLISHED = Path(__file__).parents[1] / "published.json"
"""The numbers, each with its source: `sources` (cite, link) and `numbers` (source, where, quantity, arm, data, model,
judge, temperature, value or seeds, n; null where the source does not state it)."""
_TONES = {CONSISTENT: "good", NOT_CONSISTENT: "bad"}
_NAMES = {"reward_model": "Reward model, accuracy"}


def section(run: Run) -> list[Block]:
    """Nothing for a run of data of which nothing is published."""
    rows = records(reproduction_table(run))
    if not rows:
        return []
    columns = [
        Column("what", lambda row: Cell(_NAMES.get(row["arm"], arm_name(row["arm"], short=True)))),
        Column("source", lambda row: Cell(f"{row['cite']}, {row['where']}: {row['link']}")),
        share_column("published", "published"),
        count_column("published_n", "their n"),
        Column("judge here", lambda row: Cell(judge_name(row["judge"]) if row["judge"] else NONE)),
        share_column("ours", "ours"),
        count_column("ours_n", "n"),
        points_column("difference", "ours minus theirs (points)"),
        Column("verdict", lambda row: Cell(row["verdict"], tone=_TONES.get(row["verdict"], "open"))),
        Column("why", lambda row: Cell(row["reason"] or NONE)),
    ]
    note = (
        "Consistent: the 95 % interval of the difference (Newcombe's, of both intervals) lies within"
        f" {100 * MARGIN:.0f} points. Not consistent: it lies beyond 0, and not within them. Published numbers are as"
        " their sources give them, with an interval where these state n or every seed; they are not measured here."
    )
    return [table_of("Published numbers beside ours", columns, rows, note)]


def reproduction_table(run: Run) -> pd.DataFrame:
    """One row per published number of this run's data and arms, and judge: `published`, `ours` and `difference` (none
    where the two are not comparable), estimates, `verdict`, `reason`, and the source's `cite`, `where` and `link`."""
    published = read_json(PUBLISHED)
    rows = []
    for number in published["numbers"]:
        theirs = published_estimate(number)
        for ours, judge, measured in _ours(run, number):
            if differing := what_differs(number, ours):
                found: dict[str, Any] = {"verdict": NOT_COMPARABLE, "reason": "; ".join(differing)}
            else:
                found = agreement(measured, theirs)
            row = {"arm": number["arm"], "judge": judge, "verdict": found["verdict"], "reason": found["reason"]}
            row |= {"where": number["where"], **published["sources"][number["source"]]}
            row |= estimate_columns("published", {"value": theirs["value"], "ci95": theirs["ci95"]})
            row |= {} if theirs["n"] is None else {"published_n": theirs["n"]}
            row |= estimate_columns("ours", measured) | estimate_columns("difference", found.get("difference"))
            rows.append(row)
    return frame(rows, "arm", "judge", "verdict")


def _ours(run: Run, number: Mapping[str, Any]) -> list[tuple[dict[str, Any], str, Mapping[str, Any]]]:
    """What the run has of the published quantity: what it is of, its judge, and its estimate."""
    model = run.setting("config.model.name")
    if number["quantity"] == "accuracy":
        accuracy = (run.metrics.get("reward_model") or {}).get("accuracy")
        is_same = run.setting("config.data.kind") == number["data"]
        of = {"data": number["data"], "model": model, "judge": None, "temperature": None}
        return [(of, "", accuracy)] if accuracy and is_same else []
    cells = [cell for cell in _cells(run) if cell["data"] == number["data"] and number["arm"] in cell["arms"]]
    same = [cell for cell in cells if number["temperature"] in (None, cell["temperature"])]
    return [
        (
            {"data": cell["data"], "model": model, "judge": _model_of(run, judge), "temperature": cell["temperature"]},
            judge,
            rate,
        )
        for cell in (same or cells)[:1]
        for judge, rate in cell["arms"][number["arm"]].get("win_rate", {}).items()
        if rate["value"] is not None
    ]


def _cells(run: Run) -> list[dict[str, Any]]:
    """The headline and the grid, with the kind of data that each is of."""
    headline = {**run.metrics.get("cell", {"set": "test", "temperature": None}), "arms": run.metrics["arms"]}
    own = run.setting("config.data.kind")
    return [
        {**cell, "data": run.setting(f"config.sets.{cell['set']}.data.kind") or own}
        for cell in (headline, *(run.metrics.get("grid") or []))
    ]


def _model_of(run: Run, judge: str) -> str:
    """The model that a judge asks, or the judge's own name."""
    for place in (f"config.judge.instances.{judge}.openai", f"config.judge.{judge}", "config.judge.openai"):
        settings = run.setting(place)
        if isinstance(settings, Mapping) and settings.get("model") and _kind(run, judge) == "openai":
            return str(settings["model"])
    return judge


def _kind(run: Run, judge: str) -> str:
    return run.metrics.get("judges", {}).get(judge, {}).get("kind") or judge
