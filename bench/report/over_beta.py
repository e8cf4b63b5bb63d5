"""Figures of a sweep: win rate and KL against beta, and the reward that each policy's KL bought."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.evaluate.rank_correlation import rank_correlation
from bench.report.load import records
from bench.report.plot import (
    NEUTRAL,
    SIZE,
    WIDE,
    Plot,
    error_bars,
    label_points,
    new_axes,
    per_cent_axis,
    point_style,
    root_of_kl,
    root_of_kl_axis,
    slug,
    styled,
)
from bench.report.words import Row, arm_name, has, is_number, judge_name, n_in_words, number, seeds_in_words, strength

_MANY = 12
"""Policies that need the width of the page."""


@styled
def win_rate_vs_beta(points: pd.DataFrame, judge: str) -> Plot | None:
    """Win rate against the reference summary over beta (log axis), one line per arm and seed; None where no arm has two
    betas.

    Args:
        points: one row per trained policy, as `policies.policy_points` gives them.
    """
    plot = _over_beta(
        points,
        f"win_rate_{judge}",
        name=f"win_rate_vs_beta_{slug(judge)}",
        title=f"Win rate against beta, {judge_name(judge)}",
        unit="% of posts",
        scale=100,
        what_to_see="dashed: as good as the reference summaries",
    )
    if plot is not None:
        axes = plot.figure.axes[0]
        axes.axhline(50, color=NEUTRAL, linewidth=1, linestyle="--")
        per_cent_axis(axes.yaxis)
    return plot


@styled
def kl_vs_beta(points: pd.DataFrame) -> Plot | None:
    """KL(policy || SFT model) on held-out prompts over beta (log axis), one line per arm and seed."""
    return _over_beta(
        points,
        "kl_ref",
        name="kl_vs_beta",
        title="KL to the SFT model",
        unit="nats per completion",
        scale=1,
        what_to_see="equal beta is not equal KL: compare arms at the same height",
    )


def kl_and_beta(points: pd.DataFrame) -> list[str]:
    """A sentence for each arm with three betas or more: how its KL's order follows beta's, over its seeds."""
    rows = [row for row in records(points) if is_number(row.get("kl_ref")) and is_number(row["beta"])]
    sentences = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        seeds = []
        for seed in dict.fromkeys(row["seed"] for row in rows if row["arm"] == arm):
            of_seed = [row for row in rows if (row["arm"], row["seed"]) == (arm, seed)]
            betas = sorted({row["beta"] for row in of_seed})
            kls = [float(np.mean([row["kl_ref"] for row in of_seed if row["beta"] == beta])) for beta in betas]
            seeds.append((betas, kls))
        if min(len(betas) for betas, _ in seeds) < 3:
            continue
        found = rank_correlation(seeds)
        how = "falls as beta grows" if found.high < 0 else "rises with beta" if found.low > 0 else "not decided"
        sentences.append(
            f"{arm_name(arm, short=True)}'s KL against beta: rank correlation {found.value:.2f}"
            f" [{found.low:.2f}, {found.high:.2f}] over {found.n} points of"
            f" {seeds_in_words(len(seeds))}: {how}."
        )
    return sentences


@styled
def reward_kl_points(points: pd.DataFrame, of_n: Sequence[Row] = ()) -> Plot | None:
    """Reward over the root of KL, the DPO paper's Figure 2, left: a point with both intervals per policy, beta beside
    it, the points of one arm and seed joined; gold reward where known, else the proxy.

    Args:
        of_n: rows of best of n for every n, ascending, with the same columns.
    """
    table = records(points)
    reward = "reward_gold" if has(table, "reward_gold") else "reward_proxy"
    rows = [row for row in table if is_number(row.get(reward)) and is_number(row.get("kl_ref"))]
    if not rows:
        return None
    kind = "gold reward" if reward == "reward_gold" else "proxy reward"
    title = f"{kind.capitalize()} against KL"
    figure, axes = new_axes((WIDE[0], 4.4) if len(rows) > _MANY else SIZE)
    of_n = [row for row in of_n if is_number(row.get(reward))]
    if of_n:
        at, _ = root_of_kl(of_n)
        axes.plot(at, [row[reward] for row in of_n], linewidth=0.8, color=point_style("best_of_n")["color"])
    labels = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["kl_ref"])
        at, bars = root_of_kl(of_arm)
        axes.errorbar(
            at,
            [row[reward] for row in of_arm],
            xerr=bars,
            yerr=error_bars(of_arm, reward),
            elinewidth=1,
            linestyle="none",
            label=_legend(arm, of_arm),
            **point_style(arm),
        )
        for seed in dict.fromkeys(row["seed"] for row in of_arm):
            line = [row for row in of_arm if row["seed"] == seed]
            if len(line) > 1:
                at, _ = root_of_kl(line)
                axes.plot(at, [row[reward] for row in line], linewidth=0.8, color=point_style(arm)["color"])
        for row in _labelled(of_arm):
            (at,), _ = root_of_kl([row])
            labels.append((strength(row).split()[-1], float(at), row[reward]))
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    root_of_kl_axis(axes)
    label_points(axes, labels)
    axes.set(title=title, ylabel=kind)
    figure.legend(loc="outside lower center", ncols=2)
    parts = [f"{_policy(row)}: KL {number(row['kl_ref'], 2)}, {kind} {number(row[reward], 2)}" for row in rows]
    ns = [row[f"{reward}_n"] for row in rows if is_number(row.get(f"{reward}_n"))]
    caption = (
        f"{n_in_words(ns)} a point, 95 % intervals both ways; lines: one arm and seed; numbers: beta or KL target."
        " Higher at the same KL is better; what turns down has gone too far."
    )
    return Plot("reward_kl", title, f"{title}. {'; '.join(parts)}.", figure, caption)


def _over_beta(
    points: pd.DataFrame, column: str, *, name: str, title: str, unit: str, scale: float, what_to_see: str
) -> Plot | None:
    rows = [row for row in records(points) if is_number(row.get(column)) and is_number(row["beta"])]
    betas_of = {arm: {row["beta"] for row in rows if row["arm"] == arm} for arm in {row["arm"] for row in rows}}
    rows = [row for row in rows if len(betas_of[row["arm"]]) > 1]
    if not rows:
        return None
    rows.sort(key=lambda row: row["beta"])
    figure, axes = new_axes()
    labelled = set()
    for arm, seed in dict.fromkeys((row["arm"], row["seed"]) for row in rows):
        line = [row for row in rows if (row["arm"], row["seed"]) == (arm, seed)]
        axes.errorbar(
            [row["beta"] for row in line],
            [scale * row[column] for row in line],
            yerr=scale * error_bars(line, column),
            label=None if arm in labelled else arm_name(arm, short=True),
            **point_style(arm),
        )
        labelled.add(arm)
    betas = sorted({row["beta"] for row in rows})
    if betas[0] > 0:
        axes.set_xscale("log")
    else:  # beta 0 (no KL pull) has no logarithm: a linear stretch up to the next beta
        axes.set_xscale("symlog", linthresh=betas[1] if len(betas) > 1 else 1.0)
    axes.set_xticks(betas, _apart(betas))
    kls = [row[column] for row in rows] if column == "kl_ref" else []
    if kls and min(kls) > 0 and max(kls) > 20 * min(kls):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks([], minor=True)
    axes.set(title=title, xlabel="beta", ylabel=unit)
    figure.legend(loc="outside lower center", ncols=3)
    parts = "; ".join(f"{_policy(row)}: {number(scale * row[column])}" for row in rows)
    ns = [row[f"{column}_n"] for row in rows if is_number(row.get(f"{column}_n"))]
    lines = seeds_in_words(len({row["seed"] for row in rows}))
    caption = f"{n_in_words(ns)} a point, 95 % intervals; {lines}, a line each; {what_to_see}."
    return Plot(name, title, f"{title}, {unit}. {parts}.", figure, caption)


def _apart(betas: Sequence[float]) -> list[str]:
    """The ticks' labels; none where it would stand on the one before it."""
    room = np.log10(betas[-1] / next(beta for beta in betas if beta > 0)) / 9 if betas[-1] > 0 else 0.0
    labels: list[str] = []
    last = -np.inf
    for beta in betas:
        place = np.log10(beta) if beta > 0 else -np.inf
        labels.append(f"{beta:g}" if place - last > room or beta <= 0 else "")
        last = place if labels[-1] else last
    return labels


def _labelled(rows: Sequence[Row]) -> list[Row]:
    """One policy of each setting that is told by beta or target: the first seed's."""
    return [*{strength(row): row for row in sorted(rows, key=lambda row: -row["seed"]) if strength(row)}.values()]


def _legend(arm: str, rows: Sequence[Row]) -> str:
    """What the numbers at the arm's points are: `DPO (at its beta)`."""
    kinds = dict.fromkeys(strength(row).rpartition(" ")[0] for row in _labelled(rows))
    return f"{arm_name(arm, short=True)} (at its {' or '.join(kinds)})" if kinds else arm_name(arm, short=True)


def _policy(row: Row) -> str:
    return f"{arm_name(row['arm'])}{f' at {strength(row)}' if strength(row) else ''}"
