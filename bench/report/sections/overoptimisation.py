"""Over-optimisation within a run: what the distance from the SFT model bought, on the way and over n."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.report.columns import ARM, Column, estimate_column, table_of, win_rate_columns
from bench.report.load import Run, estimate_columns, frame, records
from bench.report.over_kl import FORMS, REWARDS, Curve, fits_table, gain_over_kl, turn_in_words
from bench.report.page import Block, Figures, Text
from bench.report.plot import NEUTRAL, SERIES, Plot, drawn, new_axes, root_of_kl, root_of_kl_axis, styled
from bench.report.sections.training import training_curves
from bench.report.words import Cell, arm_name, count, is_number, judge_name, number


def section(run: Run) -> list[Block]:
    watched = _watched(run)
    if not watched:
        return []
    some = next(iter(watched.values()))
    of_gold = [
        turn
        for arm, fits in _fits(run).items()
        if "gold" in fits and (turn := turn_in_words(arm, "gold", fits["gold"]))
    ]
    return [
        Text(
            f"On the way through its training each policy was sampled on the same {some['prompts']} validation posts,"
            f" at temperature {some['temperature']:g}; best of n is of the test posts, its KL a bound. Gained is"
            " what is above the SFT model on the same posts. Where the proxy goes on rising and the gold reward does"
            " not, the reward model is being exploited."
        ),
        *([Text(" ".join(of_gold))] if of_gold else []),
        *([Text(f"Early stopping: {chosen}.")] if (chosen := checkpoints(run)) else []),
        Figures(drawn(gain_plots(run))),
        fits_table(
            "What the forms of Gao et al. 2022 say",
            [(arm, kind, fits[kind]) for arm, fits in _fits(run).items() for kind in REWARDS if kind in fits],
            f"d is the root of KL; fitted are {FORMS}, by least squares; intervals by a bootstrap over prompts. The"
            " beta of a form is no trainer's beta.",
        ),
        table_of(
            "On the way through training",
            [
                ARM,
                Column("step", lambda row: Cell(f"{row['step']:.0f}")),
                estimate_column("kl_ref", "KL to SFT (nats)", 2),
                *(estimate_column(f"gain_{reward}", f"{reward} reward gained", 2) for reward in REWARDS),
                estimate_column("length_tokens", "length (tokens)", 1),
                *win_rate_columns(run.judges),
            ],
            records(in_training_table(run)),
        ),
    ]


def in_training_table(run: Run) -> pd.DataFrame:
    """One row per arm and step: `kl_ref`, `reward_<kind>`, `gain_<kind>`, `length_tokens`, `win_rate_<judge>`."""
    rows = [
        {"arm": arm, "step": point["step"]} | _columns(point)
        for arm, watched in _watched(run).items()
        for point in watched["points"]
    ]
    return frame(rows, "arm", "step")


def best_of_n_rows(run: Run) -> list[dict[str, float]]:
    """The same columns for every n, ascending."""
    by_n = run.metrics.get("best_of_n", {}).get("by_n", {})
    return [_columns(point) for _, point in sorted(by_n.items(), key=lambda item: int(item[0]))]


def gain_plots(run: Run) -> list[Plot | None]:
    """The gold and the proxy reward that was gained, over the root of KL."""
    rows, fits = records(in_training_table(run)), _fits(run)
    points = {arm: [row for row in rows if row["arm"] == arm] for arm in dict.fromkeys(row["arm"] for row in rows)}
    points["best_of_n"] = best_of_n_rows(run)
    return [
        gain_over_kl(
            f"{reward}_over_kl_in_training",
            f"{reward.capitalize()} reward gained on the way",
            reward,
            [Curve(arm, of_arm, fits.get(arm, {}).get(reward)) for arm, of_arm in points.items()],
        )
        for reward in REWARDS
    ]


@styled
def rollouts_over_kl(run: Run) -> Plot | None:
    """The proxy and the gold reward of PPO's rollouts, above those of its first step, over the root of their KL; None
    where PPO logged no gold reward."""
    log = [row for row in records(training_curves(run, "ppo")) if is_number(row.get("kl_ref"))]
    log = [row for row in log if is_number(row.get("gold")) and is_number(row.get("score"))]
    if len(log) < 2:
        return None
    at, _ = root_of_kl(log)
    figure, axes = new_axes()
    parts = []
    for column, name, colour in (("score", "proxy", SERIES[0]), ("gold", "gold", NEUTRAL)):
        gained = [row[column] - log[0][column] for row in log]
        axes.plot(at, gained, color=colour, label=f"{name} reward", marker="o", markersize=3, linewidth=0.8)
        parts.append(f"{name} {number(gained[-1], 2)}")
    axes.axhline(0, color=NEUTRAL, linewidth=1, linestyle=":")
    axes.set_xlim(left=0)
    root_of_kl_axis(axes)
    title = "Reward of PPO's rollouts against KL"
    axes.set(title=title, ylabel="reward gained, each in its unit")
    figure.legend(loc="outside lower center", ncols=2)
    caption = (
        f"{count(len(log))} updates of one training, joined in their order, no intervals: rollouts are of training"
        " posts. Where the proxy rises and the gold reward falls, the reward model is being exploited."
    )
    alt = f"{title}, gained by the last update at KL {number(log[-1]['kl_ref'], 2)}: {', '.join(parts)}."
    return Plot("reward_of_rollouts", title, alt, figure, caption)


def checkpoints(run: Run) -> str:
    """By whom policies were chosen on the way through their trainings, and at which steps; empty where none were."""
    found = {arm: chosen for arm in run.arms if (chosen := run.metrics["arms"][arm].get("checkpoint"))}
    if not found:
        return ""
    judge = judge_name(next(iter(found.values()))["judge"])
    steps = [
        f"{arm_name(arm, short=True)} "
        + ("ended before its first moment" if c["step"] is None else f"after {c['step']} of {c['steps']} steps")
        for arm, c in found.items()
    ]
    return f"the best moments of the trainings, chosen by the {judge} on validation posts: {', '.join(steps)}"


def _watched(run: Run) -> dict[str, Mapping[str, Any]]:
    """What was sampled on the way, by arm in their order."""
    found = run.metrics.get("in_training", {})
    return {arm: found[arm] for arm in run.arms if arm in found}


def _fits(run: Run) -> dict[str, Mapping[str, Any]]:
    """Arm -> reward -> fit, best of n last."""
    fits = {arm: watched["fits"] for arm, watched in _watched(run).items()}
    of_n = run.metrics.get("best_of_n", {}).get("fits")
    return fits | ({"best_of_n": of_n} if of_n else {})


def _columns(point: Mapping[str, Any]) -> dict[str, float]:
    columns = estimate_columns("kl_ref", point["kl_ref"]) | estimate_columns("length_tokens", point["length_tokens"])
    for name in ("reward", "gain", "win_rate"):
        for kind, value in point.get(name, {}).items():
            columns |= estimate_columns(f"{name}_{kind}", value)
    return columns
