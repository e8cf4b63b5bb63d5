"""How much room the built-in world leaves."""

import pandas as pd

from bench.report.columns import Column, estimate_column, share_column, table_of
from bench.report.load import Run, estimate_columns, records, with_interval
from bench.report.page import Block, Text, mapping_table
from bench.report.words import Cell, estimate, has


def section(run: Run) -> list[Block]:
    if not run.metrics.get("world") or run.setting("config.data.kind") == "controlled":
        return []
    blocks: list[Block] = [
        Text("The posts of this world are made from known facts, so the true (gold) reward is known.")
    ]
    rows = records(trivial_policy_table(run))
    if rows:
        blocks.append(table_of("Policies that need no model", trivial_policy_columns(), rows))
    titles = {
        "best_attainable": "best attainable gold reward",
        "headroom": "headroom, (best - SFT) / (best - worst)",
        "headroom_from_empty": "headroom, (best - SFT) / (best - empty)",
    }
    row = world_row(run)
    facts = {
        title: " ".join(part for part in estimate(row, column)[:2] if part)
        for column, title in titles.items()
        if has([row], column)
    }
    if facts:
        blocks.append(mapping_table("Room above the SFT model", facts))
    return blocks


def trivial_policy_columns() -> list[Column]:
    return [
        Column("policy", lambda row: Cell(row["policy"].replace("_", " "))),
        estimate_column("gold", "gold reward", 2),
        share_column("win_rate_vs_sft", "wins against SFT"),
    ]


def trivial_policy_table(run: Run) -> pd.DataFrame:
    """Where the reward is known: policies that need no model, with their `gold` reward and `win_rate_vs_sft`."""
    rows = [
        {"policy": policy}
        | estimate_columns("gold", measured.get("gold"))
        | estimate_columns("win_rate_vs_sft", measured.get("win_rate_vs_sft"))
        for policy, measured in (run.metrics.get("world") or {}).get("trivial", {}).items()
    ]
    return pd.DataFrame(rows, columns=None if rows else ["policy"]).set_index("policy")


def world_row(run: Run) -> dict[str, float]:
    """Built-in world only: `best_attainable` (gold reward) and both headrooms, as columns of one row."""
    world = run.metrics.get("world") or {}
    names = ("best_attainable", "headroom", "headroom_from_empty")
    return {
        column: value for name in names for column, value in estimate_columns(name, with_interval(world, name)).items()
    }
