"""How often an arm fails over seeds and settings, and which settings its win rate follows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.evaluate.robustness import LEAST_RUNS, failures, settings_that_matter
from bench.report.columns import (
    ARM,
    Column,
    count_column,
    estimate_column,
    p_column,
    share_column,
    spread_column,
    table_of,
)
from bench.report.load import ASKED, Run, distinct, estimate_columns, leaves, to_number
from bench.report.page import Block
from bench.report.words import Cell, Row


def blocks(runs: Sequence[Run], judge: str) -> list[Block]:
    """Both tables, as far as the runs give them."""
    found: list[Block] = []
    if rows := failure_rows(runs, judge):
        columns = [
            ARM,
            count_column("policies", "policies"),
            share_column("failed", "failed"),
            count_column("collapsed", "collapsed"),
            count_column("lost_to_sft", "lost to SFT"),
            share_column("mean", "win rate, mean"),
            spread_column("sd", "sd"),
            share_column("min", "lowest"),
            share_column("max", "highest"),
        ]
        note = "Failed: the trainer saw a collapse, or the win rate is decided to be below that of the SFT model."
        found.append(table_of("How often an arm fails, over seeds and settings", columns, rows, note))
    if rows := setting_rows(runs, judge):
        columns = [
            ARM,
            Column("setting", lambda row: Cell(row["setting"])),
            estimate_column("rank_correlation", "rank correlation with the win rate", 2),
            p_column("p_value", "p"),
            p_column("p_holm", "p (Holm)"),
            count_column("settings", "settings tried"),
        ]
        note = "Spearman's, over the settings that were run, the win rate of each being the mean of its seeds."
        found.append(table_of("Settings that matter", columns, rows, note))
    return found


def failure_rows(runs: Sequence[Run], judge: str) -> list[Row]:
    """`robustness.failures` of each arm, a row each, over its distinct policies."""
    rows: list[Row] = []
    for arm in ASKED:
        if judged := _judged(runs, arm, judge):
            found = failures([run.metrics for run in judged], arm, judge)
            spread = {name: to_number(value) for name, value in found["win_rate"].items()}
            counts = {"policies": len(judged), "collapsed": found["collapsed"], "lost_to_sft": found["lost_to_sft"]}
            rows.append({"arm": arm, **counts, **spread, **estimate_columns("failed", found["failed"])})
    return rows


def setting_rows(runs: Sequence[Run], judge: str) -> list[Row]:
    """`robustness.settings_that_matter` of each arm's own numbers that were varied, a row each."""
    rows: list[Row] = []
    for arm in ASKED:
        judged = _judged(runs, arm, judge)
        of_runs = [dict(leaves(run.setting(f"config.{arm}", {}), arm)) for run in judged]
        names = [name for name in (of_runs[0] if of_runs else ()) if _is_varied([of.get(name) for of in of_runs])]
        rates: dict[tuple[float, ...], list[float]] = {}
        for run, of in zip(judged, of_runs, strict=True):
            value = run.metrics["arms"][arm]["win_rate"][judge]["value"]
            rates.setdefault(tuple(of[name] for name in names), []).append(value)
        if names and len(rates) >= LEAST_RUNS:
            settings = [dict(zip(names, values, strict=True)) for values in rates]
            found = settings_that_matter(settings, [float(np.mean(of)) for of in rates.values()])
            for name, of in found.items():
                numbers = {column: to_number(value) for column, value in of.items()}
                rows.append({"arm": arm, "setting": name, "settings": len(rates), **numbers})
    return rows


def _judged(runs: Sequence[Run], arm: str, judge: str) -> list[Run]:
    """The runs of distinct policies of the arm that were judged, as their SFT models were."""

    def has_rate(run: Run, of: str) -> bool:
        rate = run.metrics["arms"].get(of, {}).get("win_rate", {}).get(judge)
        return rate is not None and rate["ci95"] is not None

    return distinct([run for run in runs if has_rate(run, arm) and has_rate(run, "sft")], arm)


def _is_varied(values: Sequence[Any]) -> bool:
    """Whether all are numbers, and not one and the same."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) and len(set(values)) > 1
