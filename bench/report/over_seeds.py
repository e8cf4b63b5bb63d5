"""Runs that differ in their seed alone: every seed's win rate, their mean and spread, and which of them collapsed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.arms import BY_NAME, REFERENCE
from bench.evaluate.seeds import across_seeds
from bench.report import duel_over_seeds
from bench.report.by_prompt import Verdicts, share_prompts
from bench.report.columns import ARM, JUDGE, Column, count_column, share_column, spread_column, table_of
from bench.report.distrust import failed_over, overoptimised, unlike_posts
from bench.report.duel_over_seeds import duel_forest, duel_points, duel_summaries, duel_table
from bench.report.load import NOT_TRAINED, Run, estimate_columns, records, settings, to_number
from bench.report.page import Block, Figures, Table
from bench.report.plot import NEUTRAL, Plot, drawn, error_bars, new_axes, point_style, rows_axis, slug, styled
from bench.report.words import Cell, Row, arm_name, count, in_words, is_number, judge_name, n_in_words, number, share


def groups_of_seeds(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs that share every setting but the seed, where there are several seeds of them.

    A seed may have fewer arms than another, as no arm is made of another one: what both have is compared. Where that
    would join runs of one seed (a sweep of each arm by itself), their arms tell them apart. Runs of one seed and one
    setting cannot be told apart here, so their group is left out.
    """
    found: list[list[Run]] = []
    for alike in _by(runs, lambda run: {key: value for key, value in settings(run).items() if key != "arms"}):
        found += [alike] if _seeds_differ(alike) else _by(alike, settings)
    found.sort(key=lambda group: runs.index(group[0]))
    return [group for group in found if len(group) > 1 and _seeds_differ(group)]


def _by(runs: Sequence[Run], key: Callable[[Run], Mapping[str, Any]]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr(sorted(key(run).items())), []).append(run)
    return [*groups.values()]


def _seeds_differ(group: Sequence[Run]) -> bool:
    return len(group) == len({run.setting("seed") for run in group})


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
    of_seed = {run.setting("seed"): run for run in runs}
    rows = [
        {"arm": arm, "judge": judge, "seed": row["seed"], "collapsed": row["collapsed"]}
        | estimate_columns("win_rate", {**row, "n": of_seed[row["seed"]].metrics["arms"][arm]["win_rate"][judge]["n"]})
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
    of_arms = {
        mean["arm"]: [row for row in records(points) if (row["arm"], row["judge"]) == (mean["arm"], judge)]
        for mean in means
    }
    figure, axes = new_axes((4.8, 1.2 + sum(0.3 + 0.13 * len(rows) for rows in of_arms.values())))
    parts = []
    for place, mean in enumerate(means):
        of_arm = of_arms[mean["arm"]]
        for row, offset in zip(of_arm, np.linspace(-0.4, 0.15, len(of_arm)), strict=True):
            style = point_style(row["arm"])
            if row["collapsed"]:
                style["marker"] = "x"
            bars = 100 * error_bars([row], "win_rate")
            axes.errorbar([100 * row["win_rate"]], [place + offset], xerr=bars, **style)
        style = {"marker": "D", "markersize": 8, "color": NEUTRAL, "linewidth": 2.2, "capsize": 3}
        bars = 100 * error_bars([mean], "win_rate")
        axes.errorbar([100 * mean["win_rate"]], [place + 0.35], xerr=bars, **style)
        parts.append(f"{arm_name(mean['arm'])}: mean {in_words(mean, 'win_rate')}, {_seeds_in_words(of_arm)}")
    rows_axis(axes, [arm_name(row["arm"], short=True) for row in means])
    axes.axvline(50, color=NEUTRAL, linewidth=1, linestyle="--")
    axes.set(title=title, xlabel="% of posts won against the reference summary")
    ns = [row["win_rate_n"] for rows in of_arms.values() for row in rows if is_number(row.get("win_rate_n"))]
    caption = (
        f"{count(max(map(len, of_arms.values())))} seeds of {n_in_words(ns)}, in the order of the table; diamonds:"
        " means with intervals over seeds; crosses: collapsed; dashed: as good as the reference summaries."
    )
    return Plot(f"win_rate_over_seeds_{slug(judge)}", title, f"{title}. {'; '.join(parts)}.", figure, caption)


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
    means = filter(None, [_means_in_words(group, judge)])
    return [
        *duel_over_seeds.answer(group, judge),
        *means,
        *failed_over(group).values(),
        *_overoptimised(group),
        *unlike_posts(*group),
    ]


def _overoptimised(group: Sequence[Run]) -> list[str]:
    """The first seed's sentence, and how many seeds have one."""
    found = [(run.setting("seed"), said) for run in group if (said := overoptimised(run))]
    if not found:
        return []
    seed, said = found[0]
    how_many = f"{count(len(found))} of {count(len(group))} seeds"
    return [f"In {how_many} a policy is over-optimised; seed {seed}: {' '.join(said)}"]


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
    """The tables of one group, which `of_what` names among several; none where too little was judged."""
    failed = failed_over(group)
    summaries = [{**row, "judge_fails": row["judge"] in failed} for row in records(seed_summaries(group))]
    columns = [
        ARM,
        JUDGE,
        share_column("win_rate", "mean"),
        spread_column("sd", "sd"),
        count_column("seeds", "seeds"),
        count_column("collapsed_seeds", "collapsed"),
    ]
    note = (
        "Mean: with a 95 % interval for other seeds and other prompts (Student's t on the logit scale, from three seeds"
        " on), which is what a claim about a method needs. A seed's own interval is over its prompts."
        f" {_PROMPTS[share_prompts(group)]} Collapsed: decided to be below the seed's own SFT model (interval of the"
        " paired difference, and McNemar's test); such a seed is marked and stays in the mean."
    )
    note = " ".join([note, *failed.values()])
    tables: list[Table] = []
    if summaries:
        caption = f"Win rate against the reference summary over seeds{of_what}"
        tables.append(table_of(caption, columns, summaries, note))
        tables += [] if of_what else [_each_seed(group)]
    if duels := [{**row, "judge_fails": row["judge"] in failed} for row in records(duel_summaries(group))]:
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


def _each_seed(group: Sequence[Run]) -> Table:
    """A row per seed and arm, a column per judge: as many seeds as there are fit onto the page."""
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for point in records(seed_points(group)):
        row = rows.setdefault((point["seed"], point["arm"]), {"seed": point["seed"], "arm": point["arm"]})
        row |= {f"collapsed_{point['judge']}": point["collapsed"]}
        row |= {f"win_rate_{point['judge']}{end}": point[f"win_rate{end}"] for end in ("", "_low", "_high")}
    columns = [
        ARM,
        Column("seed", lambda row: Cell(str(row["seed"]))),
        *(_of_each_seed(judge) for judge in group[0].judges),
    ]
    in_order = sorted(
        rows.values(),
        key=lambda row: (list(BY_NAME).index(row["arm"]) if row["arm"] in BY_NAME else len(BY_NAME), row["seed"]),
    )
    return replace(table_of("Each seed's win rate", columns, in_order), folded=True)


def _of_each_seed(judge: str) -> Column:
    def write(row: Row) -> Cell:
        cell = share(row, f"win_rate_{judge}")
        is_collapsed = row.get(f"collapsed_{judge}") is True
        return cell._replace(text=f"{cell.text}, collapsed", tone="bad") if is_collapsed else cell

    return Column(f"win rate, {judge_name(judge)}", write)


def _seeds_in_words(rows: Sequence[Row]) -> str:
    return ", ".join(
        f"seed {row['seed']} {number(100 * row['win_rate'], 1)} %{' (collapsed)' if row['collapsed'] else ''}"
        for row in rows
    )
