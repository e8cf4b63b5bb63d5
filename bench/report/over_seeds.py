"""Runs that differ in their seed alone: every seed's win rate, their mean and spread, and which of them collapsed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.arms import REFERENCE
from bench.evaluate.seeds import across_seeds
from bench.report import duel_over_seeds
from bench.report.by_prompt import Verdicts, share_prompts
from bench.report.columns import ARM, JUDGE, Column, count_column, share_column, table_of
from bench.report.duel_over_seeds import duel_forest, duel_points, duel_summaries, duel_table
from bench.report.load import NOT_TRAINED, Run, estimate_columns, records, settings, to_number
from bench.report.page import Block, Figures, Table
from bench.report.plot import NEUTRAL, Plot, arm_colour, drawn, error_bars, new_axes, point_style, slug, styled
from bench.report.words import Cell, Row, arm_name, count, in_words, judge_name, number, share


def groups_of_seeds(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs that share every setting but the seed, where there are several seeds of them.

    Runs of one seed and one setting cannot be told apart here, so their group is left out.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr(sorted(settings(run).items())), []).append(run)
    return [group for group in groups.values() if 1 < len(group) == len({run.setting("seed") for run in group})]


def seed_summaries(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per trained arm and judge: `win_rate`, the mean over seeds (interval: `mean_over_seeds`).

    Also `sd` between seeds, the counts `seeds` and `collapsed_seeds`, and `prompts` (how many all seeds share and
    were judged on, where the verdicts are there to tell their part from the seeds').
    """
    rows = [
        {"arm": arm, "judge": judge, "sd": found["sd"], "seeds": found["n"], "collapsed_seeds": found["collapsed"]}
        | {"prompts": to_number(found["prompts"])}
        | estimate_columns("win_rate", {"value": found["mean"], "ci95": found["ci95"]})
        for arm, judge, found in _summaries(runs)
    ]
    return pd.DataFrame(rows, columns=None if rows else ["arm", "judge"])


def seed_points(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per trained arm, judge and seed: `win_rate` (estimate over prompts) and whether it `collapsed`."""
    rows = [
        {"arm": arm, "judge": judge, "seed": row["seed"], "collapsed": row["collapsed"]}
        | estimate_columns("win_rate", row)
        for arm, judge, found in _summaries(runs)
        for row in found["seeds"]
    ]
    return pd.DataFrame(rows, columns=None if rows else ["arm", "judge"])


@styled
def win_rate_over_seeds(summaries: pd.DataFrame, points: pd.DataFrame, judge: str) -> Plot | None:
    """Every seed's win rate beside the mean of each arm, for one judge; a collapsed seed is a cross.

    Args:
        summaries, points: `over_seeds.seed_summaries` and `over_seeds.seed_points` of one group of runs.
    """
    means = [row for row in records(summaries) if row["judge"] == judge]
    if not means:
        return None
    title = f"Win rate over seeds, {judge_name(judge)}"
    figure, axes = new_axes()
    parts = []
    for place, mean in enumerate(means):
        of_arm = [row for row in records(points) if (row["arm"], row["judge"]) == (mean["arm"], judge)]
        offsets = np.linspace(-0.3, 0.3, len(of_arm))
        for row, offset in zip(of_arm, offsets, strict=True):
            style = point_style(row["arm"])
            if row["collapsed"]:
                style["marker"] = "x"
            axes.errorbar([place + offset], [100 * row["win_rate"]], yerr=100 * error_bars([row], "win_rate"), **style)
        axes.hlines(100 * mean["win_rate"], place - 0.4, place + 0.4, colors=arm_colour(mean["arm"]))
        parts.append(f"{arm_name(mean['arm'])}: mean {in_words(mean, 'win_rate')}, {_seeds_in_words(of_arm)}")
    axes.axhline(50, color=NEUTRAL, linewidth=1, linestyle="--")
    axes.set_xticks(range(len(means)), [arm_name(row["arm"], short=True) for row in means])
    axes.set(
        title=title, ylabel="% of prompts", ylim=(0, 100), xlabel="points: seeds, crosses: collapsed, lines: means"
    )
    axes.grid(False, axis="x")
    return Plot(f"win_rate_over_seeds_{slug(judge)}", title, f"{title}. {'; '.join(parts)}.", figure)


def seeds_section(groups: Sequence[Sequence[Run]]) -> list[Block]:
    """The tables and figures of a single group; of several the tables, folded, each by what sets it apart."""
    if len(groups) != 1:
        of = [settings(group[0]) for group in groups]
        keys = sorted({key for of_group in of for key in of_group})
        varied = [key for key in keys if len({repr(of_group.get(key)) for of_group in of}) > 1]
        names = [", ".join(f"{key}={of_group.get(key)}" for key in varied) for of_group in of]
        tables = [
            table for group, name in zip(groups, names, strict=True) for table in _seed_tables(group, f": {name}")
        ]
        return [replace(table, folded=True) for table in tables]
    (group,) = groups
    summaries, points = seed_summaries(group), seed_points(group)
    duels, of_each = duel_summaries(group), duel_points(group)
    plots = [
        *(duel_forest(duels, of_each, judge) for judge in group[0].judges),
        *(win_rate_over_seeds(summaries, points, judge) for judge in group[0].judges),
    ]
    figures: list[Block] = [Figures(drawn(plots))] if any(plots) else []
    return [*figures, *_seed_tables(group, "")]


def answer(group: Sequence[Run], judge: str) -> list[str]:
    """Who wins head to head, and each arm's mean."""
    return [*duel_over_seeds.answer(group, judge), *filter(None, [_means_in_words(group, judge)])]


def _means_in_words(group: Sequence[Run], judge: str) -> str:
    """`Mean over seeds: DPO 74.1 % [70.2, 78.0] (5 seeds, none collapsed), ...`; empty where nothing was judged."""
    parts = [
        f"{arm_name(row['arm'], short=True)} {in_words(row, 'win_rate')} ({count(row['seeds'])} seeds,"
        f" {count(row['collapsed_seeds']) if row['collapsed_seeds'] else 'none'} collapsed)"
        for row in records(seed_summaries(group))
        if row["judge"] == judge
    ]
    return f"Mean over seeds, {judge_name(judge)}: {', '.join(parts)}." if parts else ""


def _seed_tables(group: Sequence[Run], of_what: str) -> list[Table]:
    """The table of one group; none where too little was judged."""
    summaries = records(seed_summaries(group))
    of_each: dict[tuple[str, str], dict[str, Row]] = {}
    for row in records(seed_points(group)):
        of_each.setdefault((row["arm"], row["judge"]), {})[str(row["seed"])] = row
    seeds = sorted({run.setting("seed") for run in group})
    columns = [
        ARM,
        JUDGE,
        share_column("win_rate", "mean"),
        Column("sd (points)", lambda row: Cell(number(100 * row["sd"], 1))),
        count_column("seeds", "seeds"),
        count_column("collapsed_seeds", "collapsed"),
        *(_seed_column(str(seed), of_each) for seed in seeds),
    ]
    note = (
        "Mean: with a 95 % interval for other seeds and other prompts (Student's t on the logit scale, from three seeds"
        " on), which is what a claim about a method needs. A seed's own interval is over its prompts."
        f" {_PROMPTS[share_prompts(group)]} Collapsed: decided to be below the seed's own SFT model (interval of the"
        " paired difference, and McNemar's test); such a seed is marked and stays in the mean."
    )
    tables: list[Table] = []
    if summaries:
        caption = f"Win rate against the reference summary over seeds{of_what}"
        tables.append(table_of(caption, columns, summaries, note))
    if duels := records(duel_summaries(group)):
        tables.append(duel_table(duels, of_what))
    return tables


_PROMPTS = {
    True: "The seeds share their prompts, a source of variance beside the seeds: told apart where the verdicts are"
    " there (shared prompts), else counted whole.",
    False: "Each seed has prompts of its own.",
}


def _summaries(runs: Sequence[Run]) -> list[tuple[str, str, dict[str, Any]]]:
    """(arm, judge, `across_seeds`), over the runs in which the judge compared both the arm and SFT."""
    found = []
    verdicts = {judge: Verdicts(runs, judge) for judge in runs[0].judges}
    for arm in dict.fromkeys(arm for run in runs for arm in run.arms if arm not in NOT_TRAINED):
        for judge, said in verdicts.items():
            judged = [run.metrics for run in runs if all(_is_judged(run, name, judge) for name in (arm, "sft"))]
            if len(judged) > 1:
                summary = across_seeds(judged, arm, judge, said.against(arm, REFERENCE), said.shared)
                found.append((arm, judge, summary))
    return found


def _is_judged(run: Run, arm: str, judge: str) -> bool:
    rate = run.metrics["arms"].get(arm, {}).get("win_rate", {}).get(judge)
    return rate is not None and rate["ci95"] is not None


def _seed_column(seed: str, of_each: dict[tuple[str, str], dict[str, Row]]) -> Column:
    def write(row: Row) -> Cell:
        point = of_each[row["arm"], row["judge"]].get(seed, {})
        cell = share(point, "win_rate")
        return cell._replace(text=f"{cell.text}, collapsed", tone="bad") if point.get("collapsed") is True else cell

    return Column(f"seed {seed}", write)


def _seeds_in_words(rows: Sequence[Row]) -> str:
    return ", ".join(
        f"seed {row['seed']} {number(100 * row['win_rate'], 1)} %{' (collapsed)' if row['collapsed'] else ''}"
        for row in rows
    )
