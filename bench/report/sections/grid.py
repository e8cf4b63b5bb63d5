"""The same policies elsewhere: at other temperatures, and on other posts than the headline's."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from bench.report.columns import (
    ARM,
    JUDGE,
    PAIR,
    Column,
    estimate_column,
    p_column,
    share_column,
    table_of,
    verdict,
    win_rate_columns,
)
from bench.report.distrust import failed_checks, judge_called, with_fails
from bench.report.load import COMPARED, Run, frame, records
from bench.report.page import Block, Figures, Text
from bench.report.plot import NEUTRAL, Plot, drawn, error_bars, new_axes, per_cent_axis, point_style, slug, styled
from bench.report.sections.head_to_head import head_to_head_table
from bench.report.sections.results import arm_table
from bench.report.words import Cell, arm_name, count, in_words, is_number, n_in_words

_CELL = (
    Column("set", lambda row: Cell(row["set"])),
    Column("temperature", lambda row: Cell(f"{row['temperature']:g}")),
)


def section(run: Run) -> list[Block]:
    table = grid_table(run)
    if table.empty:
        return []
    rows = records(table)
    judges = [judge for judge in run.judges if f"win_rate_{judge}" in table]
    plots = [win_rate_vs_temperature(run, of_set, judge) for of_set in _sets(rows) for judge in judges]
    blocks: list[Block] = [
        Text(
            "The policies are those of the headline; only what they are asked, or how they are sampled, differs. The"
            " posts of a set are the same at every temperature. The best of several temperatures flatters an arm: it"
            " is not better for its best cell."
        ),
        Figures(drawn(plots)),
        table_of(
            "Every arm in every cell",
            [
                *_CELL,
                ARM,
                *win_rate_columns(judges, failed=failed_checks(run)),
                Column("n", lambda row: Cell(count(row["n_prompts"]))),
                estimate_column("kl_ref", "KL to SFT (nats)", 2),
                estimate_column("reward_gold", "gold reward", 2),
                estimate_column("length_tokens", "length (tokens)", 1),
            ],
            rows,
        ),
    ]
    duels = [row for row in with_fails(run, records(grid_duels(run))) if {row["arm_a"], row["arm_b"]} <= COMPARED]
    if duels:
        blocks.append(
            table_of(
                "Head to head in every cell",
                [
                    *_CELL,
                    PAIR,
                    JUDGE,
                    share_column("win_rate", "win rate"),
                    Column("n", lambda row: Cell(count(row.get("win_rate_n")))),
                    p_column("p_holm", "p (Holm, within the cell)"),
                    Column("is the first better?", lambda row: verdict(row["first_is_better"])),
                ],
                duels,
            )
        )
    return blocks


def cells(run: Run) -> Iterator[tuple[str, float, Run]]:
    """(set, temperature, the run as if that cell were its headline), set by set from the lowest temperature on.

    Nothing for a run that was evaluated in one cell.
    """
    grid = run.metrics.get("grid") or []
    if not grid:
        return
    headline = run.metrics["cell"]
    views = [(headline["set"], headline["temperature"], run)]
    views += [(row["set"], row["temperature"], replace(run, metrics={**run.metrics, **row})) for row in grid]
    sets = list(dict.fromkeys(name for name, _, _ in views))
    yield from sorted(views, key=lambda view: (sets.index(view[0]), view[1]))


def grid_table(run: Run) -> pd.DataFrame:
    """One row per set, temperature and arm: `set`, `temperature`, `n_prompts`, then the columns of `arm_table`."""
    rows = [
        {"set": of_set, "temperature": temperature, "n_prompts": _prompts(view)} | row
        for of_set, temperature, view in cells(run)
        for row in records(arm_table(view))
    ]
    return frame(rows, "set", "temperature", "arm")


def grid_duels(run: Run) -> pd.DataFrame:
    """One row per set, temperature, pair of arms and judge: the columns of `head_to_head_table`."""
    rows = [
        {"set": of_set, "temperature": temperature} | row
        for of_set, temperature, view in cells(run)
        for row in records(head_to_head_table(view))
    ]
    return frame(rows, "set", "temperature", "arm_a", "arm_b", "judge")


@styled
def win_rate_vs_temperature(run: Run, of_set: str, judge: str) -> Plot | None:
    """Win rate against the reference summary over the sampling temperature, a line per arm; one set, one judge.

    The DPO paper's Figure 2, right. None where the set was sampled at one temperature.
    """
    column = f"win_rate_{judge}"
    rows = [row for row in records(grid_table(run)) if row["set"] == of_set and is_number(row.get(column))]
    temperatures = sorted({row["temperature"] for row in rows})
    if len(temperatures) < 2:
        return None
    title = f"Win rate against temperature, {judge_called(run, judge)}" + ("" if of_set == "test" else f", {of_set}")
    figure, axes = new_axes()
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    width = (temperatures[-1] - temperatures[0]) / 80
    parts = []
    for place, arm in enumerate(arms):
        of_arm = [row for row in rows if row["arm"] == arm]
        axes.errorbar(
            [row["temperature"] + width * (place - (len(arms) - 1) / 2) for row in of_arm],
            [100 * row[column] for row in of_arm],
            yerr=100 * error_bars(of_arm, column),
            label=arm_name(arm, short=True),
            **point_style(arm, arms),
        )
        told = ", ".join(f"at {row['temperature']:g} {in_words(row, column)}" for row in of_arm)
        parts.append(f"{arm_name(arm)}: {told}")
    axes.axhline(50, color=NEUTRAL, linewidth=1, linestyle="--")
    axes.set(title=title, xlabel="sampling temperature", ylabel="% of posts")
    per_cent_axis(axes.yaxis)
    axes.set_xticks(temperatures)
    figure.legend(loc="outside lower center", ncols=3)
    name = f"win_rate_vs_temperature_{slug(of_set)}_{slug(judge)}"
    ns = [row[f"{column}_n"] for row in rows if is_number(row.get(f"{column}_n"))]
    caption = (
        f"{n_in_words(ns)} at every temperature, 95 % intervals; dashed: as good as the reference summaries. A flat"
        " line is an arm that hardly minds how it is sampled."
    )
    return Plot(name, title, f"{title}, {_prompts(run)} prompts. {'; '.join(parts)}.", figure, caption)


def _sets(rows: list[dict[str, object]]) -> list[str]:
    return list(dict.fromkeys(str(row["set"]) for row in rows))


def _prompts(view: Run) -> int:
    return view.metrics.get("n_prompts") or view.metrics["data"]["counts"]["eval_prompts"]
