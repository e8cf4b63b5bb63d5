"""Whether training was sound: what the trainers' checks found."""

import pandas as pd

from bench.report.columns import Column, table_of
from bench.report.load import Run, frame, records
from bench.report.page import Block, Note, Text
from bench.report.words import Cell, count, stage_name

_COLLAPSE = "collapse"
_TONES = {_COLLAPSE: "bad", "note": "open"}


def section(run: Run) -> list[Block]:
    """What the trainers found wrong with themselves; a run of before they looked has no such section."""
    watched = run.metrics.get("health")
    if not watched:
        return []
    found = records(health_table(run))
    if not found:
        return [Text(f"No findings in {', '.join(watched)}.")]
    columns = [
        Column("stage", lambda row: Cell(row["stage"])),
        Column("step", lambda row: Cell(count(row["step"]))),
        Column("kind", lambda row: Cell(row["severity"], tone=_TONES.get(row["severity"], ""))),
        Column("what is seen", lambda row: Cell(row["message"])),
        Column("what to try", lambda row: Cell(row["advice"])),
    ]
    quiet = [stage for stage in watched if stage not in {row["stage"] for row in found}]
    note = "A note explains what is normal; a warning may be mended; a collapse is a result, and is recorded as one."
    blocks: list[Block] = [
        Note(f"{stage_name(row['stage'])} collapsed at step {row['step']}: {row['message']}.")
        for row in found
        if row["severity"] == _COLLAPSE
    ]
    blocks.append(
        table_of(
            "What the trainers' checks found, each when it first fired",
            columns,
            found,
            f"{note} No findings in {', '.join(quiet)}." if quiet else note,
        )
    )
    return blocks


def health_table(run: Run) -> pd.DataFrame:
    """One row per finding of the trainers' checks: `stage`, `step`, `severity`, `check`, `message`, `advice`."""
    rows = [
        {"stage": stage} | finding
        for stage, record in run.metrics.get("health", {}).items()
        for finding in record["findings"]
    ]
    return frame(rows, "stage", "step", "severity", "check", "message", "advice")
