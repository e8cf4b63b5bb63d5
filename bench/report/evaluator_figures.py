"""Figures of what the evaluator says beside the win rates: by length, over seeds, by n, and on one scale."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.report.evaluator_tables import best_of_n_table, length_bin_table, strength_table
from bench.report.load import Run, records
from bench.report.plot import Plot, arm_colour, error_bars, new_axes, point_style, slug, styled
from bench.report.words import Row, arm_name, count, has, in_words, is_number, judge_name, number, ratio_bin

_JUDGE_STYLES = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."))


@styled
def win_rate_by_length(run: Run) -> list[Plot]:
    """Per judge: each arm's win rate against the reference summary by the ratio of their lengths."""
    table = records(length_bin_table(run))
    plots = []
    for judge in run.judges:
        rows = [row for row in table if row["judge"] == judge and is_number(row["win_rate"])]
        if not rows:
            continue
        bins = list(dict.fromkeys(ratio_bin(row) for row in table if row["judge"] == judge))
        arms = list(dict.fromkeys(row["arm"] for row in rows))
        title = f"Win rate by length, {judge_name(judge)}"
        figure, axes = new_axes()
        for arm, offset in zip(arms, np.linspace(-0.25, 0.25, len(arms)) if len(arms) > 1 else [0.0], strict=True):
            of_arm = [row for row in rows if row["arm"] == arm]
            axes.errorbar(
                [bins.index(ratio_bin(row)) + offset for row in of_arm],
                [100 * row["win_rate"] for row in of_arm],
                yerr=100 * error_bars(of_arm, "win_rate"),
                linestyle="none",
                label=arm_name(arm, short=True),
                **point_style(arm),
            )
        axes.axhline(50, color="#333333", linewidth=1, linestyle="--")
        axes.set(title=title, ylabel="% of prompts", ylim=(0, 100), xlabel="length over that of the reference summary")
        axes.set_xticks(range(len(bins)), bins)
        axes.set_xlim(-0.5, len(bins) - 0.5)
        axes.grid(False, axis="x")
        figure.legend(loc="outside lower center", ncols=4)
        parts = "; ".join(
            f"{arm_name(row['arm'])}, {ratio_bin(row)}: {in_words(row, 'win_rate')} of {count(row['win_rate_n'])}"
            for row in rows
        )
        plots.append(Plot(f"win_rate_by_length_{slug(judge)}", title, f"{title}. {parts}.", figure))
    return plots


@styled
def best_of_n_curve(run: Run) -> Plot | None:
    """Win rate of the best of n against the reference summary over n (log axis), one line per judge."""
    rows = records(best_of_n_table(run))
    judges = [judge for judge in run.judges if has(rows, f"win_rate_{judge}")]
    if not judges:
        return None
    title = "Win rate of the best of n"
    figure, axes = new_axes()
    parts = []
    for i, judge in enumerate(judges):
        column = f"win_rate_{judge}"
        line = [row for row in rows if is_number(row[column])]
        style = point_style("best_of_n")
        style["marker"], style["linestyle"] = _JUDGE_STYLES[i % len(_JUDGE_STYLES)]
        axes.errorbar(
            [row["n"] for row in line],
            [100 * row[column] for row in line],
            yerr=100 * error_bars(line, column),
            label=judge_name(judge),
            **style,
        )
        parts.append(f"{judge_name(judge)}: " + ", ".join(f"n {row['n']} {in_words(row, column)}" for row in line))
    axes.axhline(50, color="#333333", linewidth=1, linestyle="--")
    axes.set_xscale("log", base=2)
    axes.set_xticks([row["n"] for row in rows], [str(row["n"]) for row in rows])
    axes.set(title=title, xlabel="n, samples per prompt", ylabel="% of prompts", ylim=(0, 100))
    figure.legend(loc="outside lower center", ncols=2)
    return Plot("best_of_n", title, f"{title}, against the reference. {'; '.join(parts)}.", figure)


@styled
def strength_bars(run: Run) -> list[Plot]:
    """Per judge: the Bradley-Terry strength of every arm with its interval, the reference summary at 0."""
    table = records(strength_table(run))
    plots = []
    for judge in run.judges:
        column = f"strength_{judge}"
        rows = sorted((row for row in table if is_number(row.get(column))), key=lambda row: row[column])
        if not rows:
            continue
        title = f"Bradley-Terry strength, {judge_name(judge)}"
        figure, axes = new_axes()
        for place, row in enumerate(rows):
            axes.errorbar(
                [row[column]],
                [place],
                xerr=error_bars([row], column),
                linestyle="none",
                **point_style(row["arm"]),
            )
        axes.axvline(0, color="#333333", linewidth=1, linestyle="--")
        axes.set_yticks(range(len(rows)), [arm_name(row["arm"], short=True) for row in rows])
        axes.set(title=title, xlabel="nats (dashed: the reference summary)")
        axes.grid(False, axis="y")
        parts = ", ".join(f"{arm_name(row['arm'])} {number(row[column], 2)}" for row in reversed(rows))
        plots.append(Plot(f"strength_{slug(judge)}", title, f"{title}, nats: {parts}.", figure))
    return plots


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
    axes.axhline(50, color="#333333", linewidth=1, linestyle="--")
    axes.set_xticks(range(len(means)), [arm_name(row["arm"], short=True) for row in means])
    axes.set(
        title=title, ylabel="% of prompts", ylim=(0, 100), xlabel="points: seeds, crosses: collapsed, lines: means"
    )
    axes.grid(False, axis="x")
    return Plot(f"win_rate_over_seeds_{slug(judge)}", title, f"{title}. {'; '.join(parts)}.", figure)


def _seeds_in_words(rows: Sequence[Row]) -> str:
    return ", ".join(
        f"seed {row['seed']} {number(100 * row['win_rate'], 1)} %{' (collapsed)' if row['collapsed'] else ''}"
        for row in rows
    )
