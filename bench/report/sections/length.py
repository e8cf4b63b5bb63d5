"""Is it length that wins: win rates at equal length, and by length."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.arms import REFERENCE
from bench.report.browser import coldest
from bench.report.columns import ARM, JUDGE, count_column, estimate_column, share_column, table_of, text_column
from bench.report.distrust import failed_checks, judge_called, with_fails
from bench.report.load import Run, estimate_columns, frame, records, to_number
from bench.report.page import Block, Figures, Table, Text
from bench.report.plot import (
    NEUTRAL,
    Plot,
    drawn,
    error_bars,
    new_axes,
    per_cent_axis,
    point_style,
    rows_axis,
    slug,
    styled,
)
from bench.report.words import (
    Row,
    arm_name,
    count,
    in_words,
    is_number,
    n_in_words,
    number,
    ratio_bin,
    share,
)


def section(run: Run) -> list[Block]:
    """Win rates with length taken out, and by length."""
    controlled = with_fails(run, records(length_table(run)))
    if not controlled:
        return []
    bins, failed = records(length_bin_table(run)), failed_checks(run)
    by_arm: dict[tuple[str, str], dict[str, Row]] = {}
    for row in bins:
        by_arm.setdefault((row["arm"], row["judge"]), {})[ratio_bin(row)] = row
    names = list(dict.fromkeys(ratio_bin(row) for row in bins))
    blocks: list[Block] = [
        Text(
            "Judges tend to prefer the longer summary, and arms differ in length. At equal length: the win rate that a"
            " logistic regression on the difference in length, over all arms together, predicts where both summaries"
            " are equally long (after Dubois et al. 2024). Where it lies far from the win rate, length did part of the"
            " winning; it takes out length itself, and not what goes with it."
        ),
        table_of(
            "Win rate against the reference summary, as judged and at equal length",
            [
                ARM,
                JUDGE,
                share_column("win_rate", "win rate"),
                share_column("equal_length", "at equal length"),
                count_column("equal_length_n", "n"),
                estimate_column("length_effect", "length effect (log-odds)", 2),
                text_column("caution", "why there is no number, or a doubtful one"),
            ],
            controlled,
            "Length effect: above 0, longer summaries win more often.",
        ),
    ]
    if plots := drawn([length_distributions(run), *win_rate_by_length(run)]):
        blocks.append(Figures(plots))
    if bins:
        blocks += [
            Table(
                "Win rate by the length of the arm's summary over that of the reference summary",
                ["arm", "judge", *names],
                [
                    [
                        ARM.write({"arm": arm}),
                        JUDGE.write({"judge": judge, "judge_fails": judge in failed}),
                        *(share(of_arm[name], "win_rate", with_n=True) for name in names),
                    ]
                    for (arm, judge), of_arm in by_arm.items()
                ],
            ),
        ]
    return blocks


def length_table(run: Run) -> pd.DataFrame:
    """One row per arm and judge: `win_rate`, `equal_length` (estimates) and what stands between them.

    `length_effect` is the log-odds by which a longer summary wins (above 0: longer ones do); `reason` says why there
    is no number at equal length, None where there is one; `caution` is the reason, or why the number is doubtful.
    """
    rows = []
    for arm in run.arms:
        measured = run.metrics["arms"][arm]
        for judge in run.judges:
            controlled = measured.get("win_rate_length_controlled", {}).get(judge)
            if controlled is None:
                continue
            row: dict[str, Any] = {"arm": arm, "judge": judge}
            row |= estimate_columns("win_rate", measured["win_rate"][judge])
            row |= estimate_columns("equal_length", controlled)
            row |= {"length_effect": to_number(controlled["length_effect"]), "reason": controlled["reason"]}
            rows.append(row | {"caution": controlled["reason"] or controlled.get("flag")})
    return frame(rows, "arm", "judge", "win_rate", "equal_length", "length_effect", "reason", "caution")


def length_bin_table(run: Run) -> pd.DataFrame:
    """One row per arm, judge and bin of length ratios, arm over reference summary: `from`, `below`, `win_rate`.

    `below` is NaN in the last bin, which is open.
    """
    rows = [
        {"arm": arm, "judge": judge, "from": bin_["length_ratio"][0], "below": to_number(bin_["length_ratio"][1])}
        | estimate_columns("win_rate", bin_)
        for arm in run.arms
        for judge in run.judges
        for bin_ in run.metrics["arms"][arm].get("win_rate_by_length", {}).get(judge, [])
    ]
    return frame(rows, "arm", "judge", "from", "below", "win_rate", "win_rate_n")


@styled
def length_distributions(run: Run) -> Plot | None:
    """Words of every arm's summaries and of the reference summaries: median, quartiles, 5 and 95 per cent; None where
    the completions are not there."""
    words = {
        arm: [len(str(row["completion"]).split()) for row in rows.values()]
        for arm, rows in coldest(run).items()
        if rows
    }
    if not words:
        return None
    words[REFERENCE] = [len(str(text).split()) for text in run.prompts["reference"] if text]
    words = {arm: of_arm for arm, of_arm in words.items() if of_arm}
    figure, axes = new_axes((4.8, 1.15 + 0.33 * len(words)))
    parts = []
    for place, (arm, of_arm) in enumerate(words.items()):
        far, low, middle, high, end = (float(q) for q in np.quantile(of_arm, (0.05, 0.25, 0.5, 0.75, 0.95)))
        style = point_style(arm, run.arms)
        axes.plot([far, end], [place] * 2, color=style["color"], linewidth=1.2)
        axes.plot([low, high], [place] * 2, color=style["color"], linewidth=6, alpha=0.45, solid_capstyle="butt")
        axes.plot([middle], [place], color=style["color"], marker=style["marker"], markersize=6, linestyle="none")
        parts.append(f"{arm_name(arm)} {number(middle, 0)} ({number(far, 0)} to {number(end, 0)})")
    rows_axis(axes, [arm_name(arm, short=True) for arm in words])
    axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    axes.set(title="Length of the summaries", xlabel="words")
    caption = (
        f"{n_in_words(map(len, words.values()), 'summaries')} of each; mark: median, thick: the middle half, thin: 5 to"
        " 95 %. An arm that lies right of the reference may win by its length."
    )
    alt = f"Words of the summaries, median (5 to 95 %): {'; '.join(parts)}."
    return Plot("length_of_summaries", "Length of the summaries", alt, figure, caption)


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
        title = f"Win rate by length, {judge_called(run, judge)}"
        figure, axes = new_axes((4.8, 1.6 + len(bins) * (0.25 + 0.13 * len(arms))))
        for arm, offset in zip(arms, np.linspace(-0.3, 0.3, len(arms)) if len(arms) > 1 else [0.0], strict=True):
            of_arm = [row for row in rows if row["arm"] == arm]
            axes.errorbar(
                [100 * row["win_rate"] for row in of_arm],
                [bins.index(ratio_bin(row)) + offset for row in of_arm],
                xerr=100 * error_bars(of_arm, "win_rate"),
                linestyle="none",
                label=arm_name(arm, short=True),
                **point_style(arm, run.arms),
            )
        axes.axvline(50, color=NEUTRAL, linewidth=1, linestyle="--")
        for line in range(1, len(bins)):
            axes.axhline(line - 0.5, color=axes.xaxis.get_gridlines()[0].get_color(), linewidth=0.8)
        rows_axis(axes, [_bin_and_n(name, rows) for name in bins])
        per_cent_axis(axes.xaxis)
        axes.set(title=title, xlabel="% of posts won", ylabel="length over that of the reference")
        figure.legend(loc="outside lower center", ncols=3)
        parts = "; ".join(
            f"{arm_name(row['arm'])}, {ratio_bin(row)}: {in_words(row, 'win_rate')} of {count(row['win_rate_n'])}"
            for row in rows
        )
        caption = (
            "95 % intervals; n: posts of an arm in the bin, from the arm with the fewest to that with the most. Where"
            " every arm's dots move to the right from top to bottom, length does part of the winning."
        )
        plots.append(Plot(f"win_rate_by_length_{slug(judge)}", title, f"{title}. {parts}.", figure, caption))
    return plots


def _bin_and_n(name: str, rows: Sequence[Row]) -> str:
    ns = sorted({row["win_rate_n"] for row in rows if ratio_bin(row) == name})
    ends = " to ".join(count(n) for n in dict.fromkeys((ns[0], ns[-1]))) if ns else "0"
    return f"{name}\nn {ends}"
