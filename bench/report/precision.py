"""Do bf16 and fp32 train alike? The training curves of runs that differ in precision and seed alone, paired by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from bench.errors import RunFolderError
from bench.evaluate.statistics import holm
from bench.files import atomic_open
from bench.report.compare import varied_settings
from bench.report.load import NAMES_OF_A_RUN, Run, load_run
from bench.report.words import arm_name, judge_name

_SETTING = "model.precision"
_LEVEL = 0.05
CURVES = {
    "SFT, loss": ("sft", "loss"),
    "reward model, loss": ("reward", "loss"),
    "DPO, loss": ("dpo", "loss"),
    "DPO, margin of implicit rewards": ("dpo", "rewards/margins"),
    "PPO, score": ("ppo", "score"),
    "PPO, KL to the SFT model (nats)": ("ppo", "kl_ref"),
}
"""Name -> stage and column of its training log."""
Curves = Mapping[str, Mapping[int, Mapping[str, np.ndarray]]]
"""Name -> seed -> precision -> one value per logged step."""


@dataclass(frozen=True)
class Row:
    """One measure at both precisions over n seeds; `p` is Holm's, over all rows."""

    name: str
    fp32: float
    bf16: float
    difference: float
    ci95: tuple[float, float] | None
    between_seeds: float
    p: float


def compare(folders: Sequence[Path], out: Path) -> str:
    """Write `out`/precision.md and precision.svg of finished runs at both precisions, and return the table.

    Raises:
        RunFolderError: fewer than two seeds, a seed without both precisions, or runs that differ in anything else.
    """
    runs = _by_seed([load_run(folder) for folder in folders])
    curves = {
        name: {
            seed: {precision: run.training[stage][column].to_numpy(float) for precision, run in of_seed.items()}
            for seed, of_seed in runs.items()
        }
        for name, (stage, column) in CURVES.items()
        if all(stage in run.training and column in run.training[stage] for of in runs.values() for run in of.values())
    }
    finals = {
        name: {seed: {p: last_quarter(values) for p, values in of.items()} for seed, of in seeds.items()}
        for name, seeds in curves.items()
    }
    text = table(rows({**finals, **_win_rates(runs)}), len(runs))
    with atomic_open(out / "precision.md", "w") as handle:
        handle.write(text)
    with atomic_open(out / "precision.svg", "wb") as handle:
        figure(curves).savefig(handle, format="svg", metadata={"Date": None})
    return text


def last_quarter(values: np.ndarray) -> float:
    """Mean over the last quarter of the steps, at least one."""
    return float(np.mean(values[-max(1, len(values) // 4) :]))


def rows(measures: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[Row]:
    """measure -> seed -> precision -> value, as one row per measure.

    The interval is Student's t over the seeds' differences: a seed's two runs start from the same weights and see the
    same batches, so what differs between them is rounding and what it grows into. Where every seed differs by the same
    number, none included, there is no spread to compare with: no interval, and p is 1.
    """
    found = []
    for name, seeds in measures.items():
        fp32, bf16 = (np.array([of[precision] for of in seeds.values()]) for precision in ("fp32", "bf16"))
        differences = bf16 - fp32
        varies = bool(np.ptp(differences) > 1e-12 * np.abs(differences).max())
        test = stats.ttest_1samp(differences, 0.0)
        interval = test.confidence_interval(1 - _LEVEL)
        found.append(
            Row(
                name=name,
                fp32=float(fp32.mean()),
                bf16=float(bf16.mean()),
                difference=float(differences.mean()),
                ci95=(float(interval.low), float(interval.high)) if varies else None,
                between_seeds=float(fp32.std(ddof=1)),
                p=float(test.pvalue) if varies else 1.0,  # pyright: ignore[reportAttributeAccessIssue]
            )
        )
    adjusted = holm({row.name: row.p for row in found})
    return [replace(row, p=adjusted[row.name]) for row in found]


def table(found: Sequence[Row], seeds: int) -> str:
    """Markdown."""
    lines = [
        "| | fp32 | bf16 | bf16 - fp32 [95 %] | sd between seeds, fp32 | p, Holm | told apart from noise |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        verdict = "no" if row.p >= _LEVEL else "yes"
        interval = "in every seed" if row.ci95 is None else f"[{row.ci95[0]:+.4f}, {row.ci95[1]:+.4f}]"
        lines.append(
            f"| {row.name} | {row.fp32:.4f} | {row.bf16:.4f} | {row.difference:+.4f} {interval} |"
            f" {row.between_seeds:.4f} | {row.p:.2f} | {verdict} |"
        )
    return "\n".join(lines) + (
        f"\n\n{seeds} seeds, each at both precisions from the same initial weights. Curves: mean over the last quarter"
        " of the steps. Intervals: Student's t over the seeds' differences.\n"
    )


def figure(curves: Curves) -> Figure:
    """Every curve: the mean over seeds at each precision (smoothed over a twentieth of the steps) and their range."""
    lines = math.ceil(len(curves) / 3)
    canvas = Figure(figsize=(9.6, 2.6 * lines), layout="constrained")
    grid = canvas.subplots(lines, 3, squeeze=False).flatten()
    for axes, (name, seeds) in zip(grid, curves.items(), strict=False):
        for precision, colour in (("fp32", "#0072B2"), ("bf16", "#D55E00")):
            values = np.array([_smooth(of[precision]) for of in seeds.values()])
            steps = np.linspace(0, 1, values.shape[1])
            axes.plot(steps, values.mean(0), color=colour, linewidth=1.4, label=precision)
            axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
        axes.set_title(name, loc="left", fontsize="medium")
        axes.set_xlabel("share of the training")
    for axes in grid[len(curves) :]:
        axes.set_axis_off()
    grid[0].legend(frameon=False)
    return canvas


def _smooth(values: np.ndarray) -> np.ndarray:
    width = max(1, len(values) // 20)
    return np.convolve(values, np.ones(width) / width, mode="valid")


def _win_rates(runs: Mapping[int, Mapping[str, Run]]) -> dict[str, dict[int, dict[str, float]]]:
    """Of the arms that the first judge judged in every run."""
    every = [run for of_seed in runs.values() for run in of_seed.values()]
    judge = next(iter(every[0].judges), "")
    judged = [arm for arm in ("sft", "ppo", "dpo") if all(_win_rate(run, arm, judge) is not None for run in every)]
    return {
        f"{arm_name(arm, short=True)}, win rate ({judge_name(judge)})": {
            seed: {precision: _win_rate(run, arm, judge) for precision, run in of_seed.items()}
            for seed, of_seed in runs.items()
        }
        for arm in judged
    }


def _win_rate(run: Run, arm: str, judge: str) -> Any:
    return run.metrics["arms"].get(arm, {}).get("win_rate", {}).get(judge, {}).get("value")


def _by_seed(runs: Sequence[Run]) -> dict[int, dict[str, Run]]:
    """seed -> precision -> run, complete, with two seeds at least."""
    for key, values in varied_settings(runs).items():
        if key not in (_SETTING, *NAMES_OF_A_RUN):
            raise RunFolderError(f"the runs differ in {key} ({values}); only {_SETTING} and seed may")
    found: dict[int, dict[str, Run]] = {}
    for run in runs:
        of_seed, precision = found.setdefault(run.setting("seed"), {}), run.setting(f"config.{_SETTING}")
        if precision in of_seed:
            raise RunFolderError(f"{run.path} and {of_seed[precision].path} have the same seed and {_SETTING}")
        of_seed[precision] = run
    for seed, of_seed in found.items():
        if set(of_seed) != {"fp32", "bf16"}:
            raise RunFolderError(
                f"seed {seed} has {_SETTING}={', '.join(sorted(of_seed))}; each needs an fp32 and a bf16 run"
            )
    if len(found) < 2:
        raise RunFolderError("one seed shows no noise; give runs of two seeds or more")
    return found
