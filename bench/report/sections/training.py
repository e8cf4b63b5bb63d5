"""How training went: the curves that each stage logged."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.arms import STAGE_BY_NAME, STAGES
from bench.report.load import Run, records
from bench.report.page import Block, Figures, Text
from bench.report.plot import NEUTRAL, SERIES, Plot, new_axes, styled
from bench.report.words import count, is_number, number, stage_name

_WHY_LOGPS_FALL = (
    "Why the log-probability of chosen summaries may fall in DPO: the loss rewards only the distance between"
    " chosen and rejected. Pushing the rejected summary down widens it, and the two share many words, so the"
    " chosen one is often pulled down too, and the probability goes to summaries that are in no pair. A fall"
    " by itself is no failure; judge it by the win rate, the KL and the length above."
)


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


_FROM_EXAMPLES = ("sft", "reward")
_TRAIN, _HELD_OUT, _CHOSEN, _REJECTED = NEUTRAL, SERIES[0], *SERIES
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
_ENTROPY = Panel("entropy", "entropy", "nats per token", (Series("entropy", "entropy", _TRAIN),))
PANELS: dict[str, tuple[Panel, ...]] = {
    "sft": _SFT_PANELS,
    "reward": _REWARD_PANELS,
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
        Panel("gold", "gold reward of the rollouts", "gold reward", (Series("gold", "gold reward", _TRAIN),)),
        Panel("kl_ref", "KL to the SFT model", "nats per completion", (Series("kl_ref", "KL", _TRAIN),)),
        _ENTROPY,
    ),
    "rloo": (  # TRL's names of columns
        Panel("score", "reward of the rollouts", "reward-model units", (Series("reward", "reward", _TRAIN),)),
        Panel("kl_ref", "KL to the SFT model", "nats per token", (Series("kl", "KL", _TRAIN),)),
        _ENTROPY,
    ),
}
"""Config group of a stage's settings -> what its trainer logs. Of a group that is not here the loss is drawn."""


def section(run: Run) -> list[Block]:
    """The stages that learn from examples side by side, then each that learns a policy."""
    trained = [stage for stage in STAGES if stage.settings]
    alike = [stage.name for stage in trained if stage.settings in _FROM_EXAMPLES]
    blocks: list[Block] = []
    for stages in (alike, *([stage.name] for stage in trained if stage.name not in alike)):
        plots = [plot for stage in stages for plot in training_plots(run, stage)]
        if plots:
            blocks.append(Figures(plots))
        if plots and stages == ["dpo"]:
            blocks.append(Text(_WHY_LOGPS_FALL))
    return blocks


def training_curves(run: Run, stage: str) -> pd.DataFrame:
    """What `stage` logged, one row per logged step; empty when the run has no such stage."""
    return run.training.get(stage, pd.DataFrame())


@styled
def training_plots(run: Run, stage: str) -> list[Plot]:
    """One plot per quantity that `stage` logged (see PANELS); empty when the run has no such stage."""
    log = records(training_curves(run, stage))
    plots = []
    for panel in PANELS.get(STAGE_BY_NAME[stage].settings or "", (_LOSS,)):
        title = f"{stage_name(stage)}: {panel.title}"
        figure, axes = new_axes()
        ends = []
        for series in panel.series:
            points = [(row["step"], row[series.column]) for row in log if is_number(row.get(series.column))]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            is_rare = len(points) < 3 or 2 * len(points) < len(log)  # a line needs two points to be seen
            smooth = values if is_rare else smoothed(values)
            axes.plot(steps, smooth, color=series.colour, label=series.label, marker="o" if is_rare else None)
            if smooth is not values:
                axes.plot(steps, values, color=series.colour, linewidth=0.7, alpha=0.35, zorder=1)
            ends.append(f"{series.label} goes from {number(values[0])} to {number(values[-1])}")
        if not ends:
            continue
        axes.set(title=title, xlabel="step", ylabel=panel.unit)
        if len(ends) > 1:
            axes.legend()
        alt = f"{title}, {panel.unit}, over {log[-1]['step']} steps: {'; '.join(ends)}."
        caption = f"{count(len(log))} logged steps of one training, no intervals."
        if _window(len(log)) > 1:
            caption += f" Faint: as logged; line: the mean of {_window(len(log))} steps around each."
        plots.append(Plot(f"training_{stage}_{panel.name}", title, alt, figure, caption))
    return plots


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of the values around each (`_window` of them, fewer at the ends)."""
    return list(pd.Series(values).rolling(_window(len(values)), center=True, min_periods=1).mean())


def _window(n: int) -> int:
    """A twentieth of the steps, odd, so that it has a middle."""
    return 2 * (n // 40) + 1
