"""What is said of DPO, against what the run measured."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.report.columns import Column, table_of, verdict
from bench.report.distrust import unlike_posts
from bench.report.load import Run, estimate_columns, records
from bench.report.page import Block
from bench.report.words import Cell, count, estimate

_ESTIMATE_FIELDS = ("value", "ci95", "n", "ties", "unparsed")


def section(run: Run) -> list[Block]:
    rows = records(claims_table(run))
    if not rows:
        return []
    columns = [
        Column("claim", lambda row: Cell(str(row["claim"]))),
        Column("statement", lambda row: Cell(row["statement"])),
        Column(
            "measure", lambda row: Cell(f"{row['measure']} ({row['context']})" if row["context"] else row["measure"])
        ),
        Column("estimate", lambda row: estimate(row, "estimate")),
        Column("n", lambda row: Cell(count(row["estimate_n"]))),
        Column("verdict", lambda row: verdict(row["verdict"])),
    ]
    note = " ".join(unlike_posts(run))
    return [table_of("What is said of DPO, against what this run measured", columns, rows, note)]


def claims_table(run: Run) -> pd.DataFrame:
    """One row per claim: `statement`, `measure`, `estimate` (`_low`, `_high`, `_n`), `verdict`, `context`.

    `context` is what the estimate has to be read with, as text (e.g. the KL of both arms).
    """
    rows = [
        {"claim": row["claim"], "statement": row["statement"], "measure": row.get("measure", "")}
        | estimate_columns("estimate", row.get("estimate"))
        | {"verdict": row["verdict"], "context": _context(row.get("estimate"))}
        for row in run.metrics.get("verdicts_on_claims", [])
    ]
    columns = [
        "claim",
        "statement",
        "measure",
        "estimate",
        "estimate_low",
        "estimate_high",
        "estimate_n",
        "verdict",
    ]
    return pd.DataFrame(rows, columns=[*columns, "context"]).set_index("claim")


def _context(estimate: Any) -> str:
    """What an estimate carries beside value, interval and n, as text: `kl_ref: dpo 3.12, ppo 5.4`."""
    if not isinstance(estimate, Mapping):
        return ""
    extras = {name: value for name, value in estimate.items() if name not in _ESTIMATE_FIELDS and value is not None}
    return "; ".join(
        f"{name}: {', '.join(f'{arm} {_short(part)}' for arm, part in value.items())}"
        if isinstance(value, Mapping)
        else f"{name}: {_short(value)}"
        for name, value in extras.items()
    )


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
