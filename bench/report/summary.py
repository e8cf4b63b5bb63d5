"""The table a run ends with on the terminal."""

from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.distrust import warnings
from bench.report.load import COMPARED, Run, load_run, records
from bench.report.sections.head_to_head import head_to_head_table
from bench.report.sections.judges import caveats
from bench.report.sections.results import arm_table

_MEASURES = (
    ("reward_gold", 3),
    ("reward_proxy", 2),
    ("rougeL", 3),
    ("kl_ref", 2),
    ("kl_ref_median", 2),
    ("length_tokens", 1),
)
"""Columns of `arm_table` and the digits behind their point."""


def summary(run_dir: Path) -> str:
    """Arms and head-to-head results of a finished run as plain text, every share with its 95 % interval."""
    run = load_run(run_dir)
    arms = pd.DataFrame([_arm_row(row, run) for row in records(arm_table(run))])
    label = f", {run.setting('config.label')}" if run.setting("config.label") else ""
    which = f"{run.metrics['experiment']}, seed {run.metrics['seed']}{label}"
    judged = any(arm.get("win_rate") for arm in run.metrics["arms"].values())
    what = "win rates against the reference summary" if judged else "no win rates against a reference summary"
    lines = [f"{which}: {what}", ""]
    lines += [arms.to_string(index=False), "", *warnings(run), *caveats(run), "head to head:"]
    duels = records(head_to_head_table(run))
    asked = [row for row in duels if {row["arm_a"], row["arm_b"]} <= COMPARED]
    lines += [_duel(row) for row in asked]
    if others := len(duels) - len(asked):
        lines.append(f"  {others} more in the report")
    return "\n".join(lines) + "\n"


def _arm_row(row: dict[str, Any], run: Run) -> dict[str, str]:
    cells = {"arm": f"{row['arm']} (collapsed)" if row.get("collapsed") is True else str(row["arm"])}
    for judge in run.judges:
        if f"win_rate_{judge}" not in row:
            continue
        cells[f"win % ({judge})"] = _interval(row, f"win_rate_{judge}", 100, 1)
    for column, digits in _MEASURES:
        if column in row:
            cells[column] = _interval(row, column, 1, digits)
    for column in ("device_hours", "peak_memory_gib"):
        if column in row:
            cells[column] = "-" if pd.isna(row[column]) else f"{row[column]:.3f}"
    return cells


def _interval(row: dict[str, Any], column: str, scale: float, digits: int) -> str:
    value = row.get(column)
    if value is None or pd.isna(value):
        return "-"
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    text = f"{value * scale:.{digits}f}"
    return text if pd.isna(low) else f"{text} [{low * scale:.{digits}f}, {high * scale:.{digits}f}]"


def _duel(row: dict[str, Any]) -> str:
    return (
        f"  {row['arm_a']} beats {row['arm_b']} ({row['judge']}): {_interval(row, 'win_rate', 100, 1)} %"
        f"  n={row['win_rate_n']:.0f}  p={row['p_value']:.2g}  is {row['arm_a']} better: {row['first_is_better']}"
    )
