"""What the device time bought: the win rate of each policy over what it cost."""

import pandas as pd

from bench.report.load import NOT_TRAINED, START, records
from bench.report.plot import NEUTRAL, Plot, error_bars, new_axes, per_cent_axis, point_style, slug, styled
from bench.report.words import arm_name, in_words, is_number, judge_name, n_in_words, time_unit


@styled
def win_rate_vs_cost(points: pd.DataFrame, judge: str) -> Plot | None:
    """Win rate against the reference summary over the device time beyond the SFT model, a point per policy; None where
    no trained policy has both.

    Args:
        points: of `policies.policy_points`; an SFT model stands at 0.
    """
    column = f"win_rate_{judge}"
    rows = [row for row in records(points) if is_number(row.get(column)) and is_number(row.get("device_hours"))]
    if all(row["arm"] in NOT_TRAINED for row in rows):
        return None
    rows = [{**row, "device_hours": 0.0} if row["arm"] == START else row for row in rows]
    unit = time_unit(row["device_hours"] for row in rows)
    figure, axes = new_axes()
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = [row for row in rows if row["arm"] == arm]
        axes.errorbar(
            [row["device_hours"] * unit.per_hour for row in of_arm],
            [100 * row[column] for row in of_arm],
            yerr=100 * error_bars(of_arm, column),
            linestyle="none",
            label=arm_name(arm, short=True),
            **point_style(arm, [row["arm"] for row in rows]),
        )
    axes.axhline(50, color=NEUTRAL, linewidth=1, linestyle="--")
    per_cent_axis(axes.yaxis)
    title = f"Win rate against cost, {judge_name(judge)}"
    axes.set(title=title, xlabel=f"device time beyond the SFT model, {unit.sign}", ylabel="% of posts")
    figure.legend(loc="outside lower center", ncols=3)
    told = [
        f"{arm_name(row['arm'])} {unit.write(row['device_hours'])} {unit.sign} {in_words(row, column)}" for row in rows
    ]
    caption = (
        f"{n_in_words(row[f'{column}_n'] for row in rows)} a policy, 95 % intervals; times are measured once; dashed:"
        " as good as the reference summaries. What is higher and further left gives more for less."
    )
    return Plot(f"win_rate_vs_cost_{slug(judge)}", title, f"{title}: {'; '.join(told)}.", figure, caption)
