"""What the reward model can do without training a policy."""

from typing import Any

import pandas as pd

from bench.report.columns import MEASURES, Column, table_of, win_rate_columns
from bench.report.distrust import judge_called
from bench.report.load import Run, estimate_columns, frame, records
from bench.report.page import Block, Figures, Text
from bench.report.plot import NEUTRAL, Plot, drawn, error_bars, new_axes, per_cent_axis, point_style, styled
from bench.report.words import Cell, has, in_words, is_number, judge_name, n_in_words

_JUDGE_STYLES = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."))


def section(run: Run) -> list[Block]:
    rows = records(best_of_n_table(run))
    if not rows:
        return []
    return [
        Text(
            "The SFT model's best completion by the reward model, for every n from one set of samples. It is what the"
            " reward model can do without training a policy, at the price of n samples per summary."
        ),
        Figures(drawn([best_of_n_curve(run)])),
        table_of(
            "Best of n",
            [
                Column("n", lambda row: Cell(str(row["n"]))),
                *win_rate_columns(run.judges, with_n=True),
                *MEASURES,
            ],
            rows,
            "The proxy reward is what is chosen by: where it rises and the win rate does not, it is being exploited.",
        ),
    ]


def best_of_n_table(run: Run) -> pd.DataFrame:
    """One row per n, ascending: `win_rate_<judge>`, `reward_gold`, `reward_proxy`, `length_tokens`, `kl_ref`.

    `kl_ref` is the bound log n - (n - 1)/n, as `kl_ref_estimator` says.
    """
    rows = []
    for n, measured in run.metrics.get("best_of_n", {}).get("by_n", {}).items():
        row: dict[str, Any] = {"n": int(n)}
        for judge in run.judges:
            row |= estimate_columns(f"win_rate_{judge}", measured["win_rate"].get(judge))
        for kind, value in measured["reward"].items():
            row |= estimate_columns(f"reward_{kind}", value)
        row |= estimate_columns("length_tokens", measured["length_tokens"])
        row |= estimate_columns("kl_ref", measured["kl_ref"])
        rows.append(row | {"kl_ref_estimator": measured["kl_ref"]["estimator"]})
    return frame(sorted(rows, key=lambda row: row["n"]), "n")


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
            label=judge_called(run, judge),
            **style,
        )
        parts.append(f"{judge_name(judge)}: " + ", ".join(f"n {row['n']} {in_words(row, column)}" for row in line))
    axes.axhline(50, color=NEUTRAL, linewidth=1, linestyle="--")
    axes.set_xscale("log", base=2)
    axes.set_xticks([row["n"] for row in rows], [str(row["n"]) for row in rows])
    per_cent_axis(axes.yaxis)
    axes.set(title=title, xlabel="n, samples per post", ylabel="% of posts")
    figure.legend(loc="outside lower center", ncols=2)
    ns = [row[f"win_rate_{judge}_n"] for judge in judges for row in rows if is_number(row[f"win_rate_{judge}"])]
    caption = (
        f"{n_in_words(ns)}, 95 % intervals; dashed: as good as the reference summaries. Where a judge's line falls"
        " while n rises, the reward model that chooses is being exploited."
    )
    return Plot("best_of_n", title, f"{title}, against the reference. {'; '.join(parts)}.", figure, caption)
