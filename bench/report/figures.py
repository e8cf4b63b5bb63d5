"""Figures of finished runs: every number drawn is read from a table of load.py or compare.py."""

import itertools
from dataclasses import dataclass

import pandas as pd

from bench.report.load import (
    NOT_TRAINED,
    Run,
    arm_cost_table,
    arm_table,
    cost_table,
    records,
    training_curves,
)
from bench.report.plot import WIDE, Plot, arm_colour, error_bars, new_axes, point_style, slug, styled
from bench.report.words import Row, arm_name, has, in_words, is_number, judge_name, number, plain

_STAGE_COLOURS = {
    "reward": "#E69F00",
    "rloo": "#56B4E9",
    "ppo": "#D55E00",
    "dpo": "#0072B2",
    "sft": "#009E73",
    "data": "#CCCCCC",
}


@dataclass(frozen=True)
class Series:
    """One column of a stage's training log and how it is drawn."""

    column: str
    label: str
    colour: str


@dataclass(frozen=True)
class Panel:
    """One plot of a stage's training log; drawn with the series that the log has."""

    name: str
    title: str
    unit: str
    series: tuple[Series, ...]


_TRAIN, _HELD_OUT, _CHOSEN, _REJECTED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
_LOSS = Panel("loss", "loss", "nats", (Series("loss", "training", _TRAIN), Series("eval_loss", "held out", _HELD_OUT)))
_REWARD_PANELS = (
    Panel(
        "accuracy",
        "accuracy",
        "share of pairs",
        (Series("accuracy", "training pairs", _TRAIN), Series("eval_accuracy", "held-out pairs", _HELD_OUT)),
    ),
    _LOSS,
)
_SFT_PANELS = (
    Panel(
        "loss",
        "loss",
        "nats per token",
        (Series("loss", "training", _TRAIN), Series("eval_loss", "held out", _HELD_OUT)),
    ),
)
_ENTROPY = Panel("entropy", "entropy", "nats per token", (Series("entropy", "entropy", _HELD_OUT),))
PANELS: dict[str, tuple[Panel, ...]] = {
    "sft": _SFT_PANELS,
    "preferred_ft": _SFT_PANELS,
    "reward": _REWARD_PANELS,
    "judge_reward": _REWARD_PANELS,
    "dpo": (
        _LOSS,
        Panel(
            "logps",
            "log-probability of chosen and rejected",
            "nats per completion",
            (Series("logps/chosen", "chosen", _CHOSEN), Series("logps/rejected", "rejected", _REJECTED)),
        ),
        Panel(
            "accuracy",
            "implicit-reward accuracy",
            "share of pairs",
            (
                Series("rewards/accuracies", "training pairs", _TRAIN),
                Series("eval_rewards/accuracies", "held-out pairs", _HELD_OUT),
            ),
        ),
    ),
    "ppo": (
        Panel("score", "score of the rollouts", "reward-model units", (Series("score", "score", _TRAIN),)),
        Panel("gold", "gold reward of the rollouts", "gold reward", (Series("gold", "gold reward", _CHOSEN),)),
        Panel("kl_ref", "KL to the SFT model", "nats per completion", (Series("kl_ref", "KL", _REJECTED),)),
        _ENTROPY,
    ),
    "rloo": (  # TRL's names
        Panel("score", "reward of the rollouts", "reward-model units", (Series("reward", "reward", _TRAIN),)),
        Panel("kl_ref", "KL to the SFT model", "nats per token", (Series("kl", "KL", _REJECTED),)),
        _ENTROPY,
    ),
}
STAGE_NAMES = {
    "sft": "SFT",
    "preferred_ft": "Preferred-FT",
    "reward": "Reward model",
    "judge_reward": "Judge's reward model",
    "dpo": "DPO",
    "ppo": "PPO",
    "rloo": "RLOO",
}


@styled
def training_plots(run: Run, stage: str) -> list[Plot]:
    """One plot per quantity that `stage` logged (see PANELS); empty when the run has no such stage."""
    log = records(training_curves(run, stage))
    plots = []
    for panel in PANELS[stage]:
        title = f"{STAGE_NAMES[stage]}: {panel.title}"
        figure, axes = new_axes()
        ends = []
        for series in panel.series:
            points = [(row["step"], row[series.column]) for row in log if is_number(row.get(series.column))]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) < 3 else None  # a line needs two points to be seen
            axes.plot(steps, values, color=series.colour, label=series.label, marker=marker)
            ends.append(f"{series.label} goes from {number(values[0])} to {number(values[-1])}")
        if not ends:
            continue
        axes.set(title=title, xlabel="step", ylabel=panel.unit)
        if len(panel.series) > 1:
            axes.legend()
        alt = f"{title}, {panel.unit}, over {log[-1]['step']} steps: {'; '.join(ends)}."
        plots.append(Plot(f"training_{stage}_{panel.name}", title, alt, figure))
    return plots


@styled
def win_rate_bars(run: Run) -> list[Plot]:
    """Per judge: the win rate of each arm against the reference summary, with its 95 % interval."""
    table = records(arm_table(run))
    plots = []
    for judge in run.judges:
        column = f"win_rate_{judge}"
        rows = [row for row in table if is_number(row.get(column))]
        if not rows:
            continue
        title = f"Win rate, {judge_name(judge)}"
        figure, axes = new_axes()
        axes.bar(
            [_marked(row) for row in rows],
            [100 * row[column] for row in rows],
            yerr=100 * error_bars(rows, column),
            color=[arm_colour(row["arm"]) for row in rows],
            capsize=4,
            width=0.6,
        )
        axes.axhline(50, color="#333333", linewidth=1, linestyle="--")
        axes.set(title=title, ylabel="% of prompts", ylim=(0, 100))
        axes.set_xlabel("dashed: as good as the reference summary")
        axes.grid(False, axis="x")
        parts = ", ".join(
            f"{arm_name(row['arm'])}{' (collapsed)' if row.get('collapsed') is True else ''} {in_words(row, column)}"
            for row in rows
        )
        plots.append(Plot(f"win_rate_{slug(judge)}", title, f"{title}, against the reference: {parts}.", figure))
    return plots


@styled
def cost_bars(run: Run) -> Plot | None:
    """Device-hours stacked by stage: each trained arm beyond the SFT model, and the shared stages apart."""
    shared = [{**row, "bar": "Shared by both"} for row in records(cost_table(run)) if row["needed_by"] == "shared"]
    of_arms = [{**row, "bar": arm_name(row["arm"], short=True)} for row in records(arm_cost_table(run))]
    segments = [row for row in shared + of_arms if is_number(row["device_hours"])]
    if not segments:
        return None
    total = dict.fromkeys((row["bar"] for row in segments), 0.0)
    spare_colours = itertools.cycle(("#56B4E9", "#CC79A7", "#F0E442", "#666666"))
    figure, axes = new_axes(WIDE)
    for stage in dict.fromkeys(row["stage"] for row in segments):
        rows = [row for row in segments if row["stage"] == stage]
        axes.barh(
            [row["bar"] for row in rows],
            [row["device_hours"] for row in rows],
            left=[total[row["bar"]] for row in rows],
            color=_STAGE_COLOURS.get(stage) or next(spare_colours),
            edgecolor="white",
            label=plain(stage),
            height=0.6,
        )
        for row in rows:
            total[row["bar"]] += row["device_hours"]
    axes.set(title="Cost by stage", xlabel="device-hours (wall time x devices)")
    axes.set_yticks(list(total))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    figure.legend(loc="outside right upper", title="stage", alignment="left")
    parts = [f"{row['bar']}, {row['stage']} {number(row['device_hours'])}" for row in segments]
    return Plot("cost_device_hours", "Cost by stage", f"Device-hours: {'; '.join(parts)}.", figure)


@styled
def memory_bars(run: Run) -> Plot | None:
    """Peak memory of each trained arm, over the stages that it needs beyond the SFT model."""
    rows = [
        row
        for row in records(arm_table(run))
        if row["arm"] not in NOT_TRAINED and is_number(row.get("peak_memory_gib"))
    ]
    if not rows:
        return None
    figure, axes = new_axes((WIDE[0], 2.0))
    bars = axes.barh(
        [arm_name(row["arm"], short=True) for row in rows],
        [row["peak_memory_gib"] for row in rows],
        color=[arm_colour(row["arm"]) for row in rows],
        height=0.6,
    )
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.set(title="Peak memory", xlabel="GiB, highest of the arm's stages")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    parts = ", ".join(f"{arm_name(row['arm'])} {row['peak_memory_gib']:.2f} GiB" for row in rows)
    return Plot("cost_peak_memory", "Peak memory", f"Peak memory: {parts}.", figure)


@styled
def win_rate_vs_beta(points: pd.DataFrame, judge: str) -> Plot | None:
    """Win rate against the reference summary over beta (log axis), one line per arm and seed.

    Args:
        points: one row per trained policy, as `compare.policy_points` gives them.
    """
    plot = _over_beta(
        points,
        f"win_rate_{judge}",
        name=f"win_rate_vs_beta_{slug(judge)}",
        title=f"Win rate against beta, {judge_name(judge)}",
        unit="% of prompts",
        scale=100,
    )
    if plot is not None:
        axes = plot.figure.axes[0]
        axes.axhline(50, color="#333333", linewidth=1, linestyle="--")
        axes.set_xlabel("beta (dashed: as good as the reference summary)")
    return plot


@styled
def kl_vs_beta(points: pd.DataFrame) -> Plot | None:
    """KL(policy || SFT model) on held-out prompts over beta (log axis), one line per arm and seed."""
    return _over_beta(
        points, "kl_ref", name="kl_vs_beta", title="KL to the SFT model", unit="nats per completion", scale=1
    )


@styled
def reward_kl_points(points: pd.DataFrame) -> Plot | None:
    """Reward over KL, a point with both intervals per policy: gold reward where known, else the proxy."""
    table = records(points)
    reward = "reward_gold" if has(table, "reward_gold") else "reward_proxy"
    rows = [row for row in table if is_number(row.get(reward)) and is_number(row.get("kl_ref"))]
    if not rows:
        return None
    kind = "gold reward" if reward == "reward_gold" else "proxy reward"
    title = f"{kind.capitalize()} against KL"
    figure, axes = new_axes()
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = [row for row in rows if row["arm"] == arm]
        axes.errorbar(
            [row["kl_ref"] for row in of_arm],
            [row[reward] for row in of_arm],
            xerr=error_bars(of_arm, "kl_ref"),
            yerr=error_bars(of_arm, reward),
            linestyle="none",
            label=arm_name(arm, short=True),
            **point_style(arm),
        )
    axes.set(title=title, xlabel="KL to the SFT model, nats per completion", ylabel=kind)
    figure.legend(loc="outside lower center", ncols=3)
    parts = [f"{_policy(row)}: KL {number(row['kl_ref'], 2)}, {kind} {number(row[reward], 2)}" for row in rows]
    return Plot("reward_kl", title, f"{title}. {'; '.join(parts)}.", figure)


def _over_beta(points: pd.DataFrame, column: str, *, name: str, title: str, unit: str, scale: float) -> Plot | None:
    rows = [row for row in records(points) if is_number(row.get(column)) and is_number(row["beta"])]
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
    axes.set_xticks(betas, [f"{beta:g}" for beta in betas])
    axes.set_xticks([], minor=True)
    axes.set(title=title, xlabel="beta", ylabel=unit)
    figure.legend(loc="outside lower center", ncols=3)
    parts = "; ".join(f"{_policy(row)}: {number(scale * row[column])}" for row in rows)
    return Plot(name, title, f"{title}, {unit}. {parts}.", figure)


def _marked(row: Row) -> str:
    name = arm_name(row["arm"], short=True)
    return f"{name}\n(collapsed)" if row.get("collapsed") is True else name


def _policy(row: Row) -> str:
    return arm_name(row["arm"]) + (f" at beta {row['beta']:g}" if is_number(row["beta"]) else "")
