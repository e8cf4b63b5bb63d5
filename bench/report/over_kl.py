"""Gain in reward over the distance from the SFT model, the root of KL, with the forms of Gao et al. 2022."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.evaluate.overoptimisation import reward_at
from bench.report.columns import Column, estimate_column, table_of, text_column
from bench.report.load import estimate_columns
from bench.report.page import Table
from bench.report.plot import NEUTRAL, Plot, error_bars, new_axes, point_style, root_of_kl, root_of_kl_axis, styled
from bench.report.words import Cell, Row, arm_name, is_number, n_in_words, number

REWARDS = ("gold", "proxy")
FORMS = "d (α - β log d) for trained policies, d (α - β d) for best of n"  # noqa: RUF001 - the letters of the papers


class Curve(NamedTuple):
    """Points of one arm, rows with `kl_ref` and `gain_<reward>`, in the order in which a line joins them, and a fit."""

    arm: str
    rows: Sequence[Row]
    fit: Mapping[str, Any] | None = None
    is_line: bool = True


@styled
def gain_over_kl(name: str, title: str, reward: str, curves: Sequence[Curve]) -> Plot | None:
    """The reward above the SFT model's over the root of KL: points with their intervals, fits as dashed lines."""
    column = f"gain_{reward}"
    figure, axes = new_axes()
    parts, labelled, ns = [], set(), set()
    for arm, all_rows, fit, is_line in curves:
        rows = [row for row in all_rows if is_number(row.get(column)) and is_number(row.get("kl_ref"))]
        if not rows:
            continue
        ns |= {row[f"{column}_n"] for row in rows if is_number(row.get(f"{column}_n"))}
        label = None if arm in labelled else arm_name(arm, short=True)
        labelled.add(arm)
        at, _ = root_of_kl(rows)
        axes.errorbar(
            at,
            [row[column] for row in rows],
            yerr=error_bars(rows, column),
            linestyle="-" if is_line else "none",
            linewidth=0.8,
            label=label,
            **point_style(arm),
        )
        if fit is not None and fit["reason"] is None:
            near, far = fit["distances"]
            d = np.linspace(near, far, 50)
            coefficients = np.array([fit["alpha"]["value"], fit["beta"]["value"]])
            axes.plot(d, reward_at(fit["form"], d, coefficients), "--", color=point_style(arm)["color"])
        at = ", ".join(f"KL {number(row['kl_ref'], 2)} {number(row[column], 2)}" for row in rows)
        parts.append(f"{arm_name(arm)}: {at}")
    if not parts:
        return None
    axes.axhline(0, color=NEUTRAL, linewidth=1, linestyle=":")
    root_of_kl_axis(axes)
    axes.set(title=title, ylabel=f"{reward} reward gained")
    figure.legend(loc="outside lower center", ncols=3)
    caption = (
        f"{n_in_words(ns)} a point, 95 % intervals of the gain; dashed curves: fitted. A curve that turns down has gone"
        " too far from the SFT model."
    )
    return Plot(name, title, f"{title}. {'; '.join(parts)}.", figure, caption)


def fits_table(caption: str, fits: Sequence[tuple[str, str, Mapping[str, Any]]], note: str) -> Table:
    """(arm, reward, fit) a row."""
    rows = []
    for arm, reward, fit in fits:
        row: dict[str, Any] = {"arm": arm, "reward": reward, "points": fit["points"], "reason": fit["reason"]}
        for name in ("alpha", "beta", "peak_kl"):
            row |= estimate_columns(name, fit[name])
        row["turn"] = None if fit["reason"] else fit["peak_kl"].get("reason")
        rows.append(row)
    columns = [
        Column("arm", lambda row: Cell(arm_name(row["arm"], short=True))),
        text_column("reward", "reward"),
        text_column("points", "points"),
        estimate_column("alpha", "alpha"),
        estimate_column("beta", "beta"),
        estimate_column("peak_kl", "turns at KL (nats)"),
        text_column("turn", "of the turn"),
        text_column("reason", "why there is none"),
    ]
    return table_of(caption, columns, rows, note)


def turn_in_words(arm: str, reward: str, fit: Mapping[str, Any]) -> str | None:
    """`DPO's gold reward turns at KL 3.1 [2.0, 4.4].` None where nothing was fitted."""
    if fit["reason"] is not None:
        return None
    peak, whose = fit["peak_kl"], f"{arm_name(arm, short=True)}'s {reward} reward"
    low, high = fit["beta"]["ci95"]
    farthest = fit["distances"][1] ** 2
    if high < 0:
        return f"{whose} bends upwards: no turn up to KL {number(farthest)}."
    if low <= 0 or peak["ci95"] is None:
        return f"Whether {whose} turns is not decided by what was seen, up to KL {number(farthest)}."
    interval = f"KL {number(peak['value'])} [{number(peak['ci95'][0])}, {number(peak['ci95'][1])}]"
    if peak["ci95"][0] > farthest:
        return f"{whose} bends, but would turn only at {interval}, beyond what was seen (up to KL {number(farthest)})."
    return f"{whose} turns at {interval}; seen up to KL {number(farthest)}."
