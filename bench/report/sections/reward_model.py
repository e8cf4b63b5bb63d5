"""What the reward models learned beside trivial rules."""

from typing import Any

import pandas as pd

from bench.report.columns import Column, count_column, estimate_column, points_column, share_column, table_of
from bench.report.load import Run, estimate_columns, frame, records, to_number, with_interval
from bench.report.page import Block, Figures, Note, Text
from bench.report.plot import NEUTRAL, SERIES, Plot, arm_colour, drawn, error_bars, new_axes, styled
from bench.report.words import Cell, Row, count, in_words, is_number, n_in_words, number

_SCORER_NAMES = {
    "reward_model": "Reward model (PPO trains against it)",
    "judge_reward_model": "Judge's reward model",
    "implicit_reward": "DPO's implicit reward",
}
_CURVE_STYLES = ((SERIES[0], "s"), (SERIES[1], "D"), (arm_colour("dpo"), "o"))


def section(run: Run) -> list[Block]:
    rows = records(reward_model_table(run))
    if not rows:
        return []
    return [
        *(_against_length(row) for row in rows if row["beats_longer_wins"] and is_number(row.get("longer_wins"))),
        table_of(
            "Which summary of a held-out pair is better: learned scorers beside trivial rules",
            [
                Column("scorer", lambda row: Cell(_SCORER_NAMES[row["scorer"]])),
                share_column("accuracy", "accuracy"),
                share_column("longer_wins", "“longer wins”"),
                share_column("title_overlap_wins", "“more of the title wins”"),
                share_column("agrees_with_longer", "agrees with “longer”"),
                Column("n", lambda row: Cell(count(row.get("accuracy_n")))),
                count_column("posts", "posts"),
            ],
            rows,
            "Intervals take the pairs of one post together: they depend on one another.",
        ),
        *_calibration(run),
    ]


def _calibration(run: Run) -> list[Block]:
    rows = records(calibration_table(run))
    if not rows:
        return []
    return [
        Figures(drawn([calibration_curves(run)])),
        table_of(
            "Whether a reward model means what it says: sigma(difference of its scores) as the label's probability",
            [
                Column("scorer", lambda row: Cell(_SCORER_NAMES[row["scorer"]])),
                points_column("overconfidence", "confidence less accuracy (points)"),
                share_column("ece", "calibration error"),
                estimate_column("brier", "Brier score", 3),
                count_column("brier_n", "n"),
            ],
            rows,
            "Calibration error: mean distance of accuracy from confidence over ten bins, less what chance adds to it."
            " Brier score: mean squared distance of the probability from the label, 0.25 for a coin. Rankings, and so"
            " win rates, do not depend on calibration; the strength of PPO's reward does.",
        ),
    ]


def calibration_table(run: Run) -> pd.DataFrame:
    """One row per reward model: `brier`, `ece`, `overconfidence` (mean confidence less accuracy), each an estimate."""
    rows = []
    for scorer in _SCORER_NAMES:
        found = run.metrics.get(scorer, {}).get("calibration")
        if found is not None:
            row: dict[str, Any] = {"scorer": scorer}
            for field in ("brier", "ece", "overconfidence"):
                row |= estimate_columns(field, found[field])
            rows.append(row)
    return frame(rows, "scorer", "brier", "ece", "overconfidence")


@styled
def calibration_curves(run: Run) -> Plot | None:
    """Accuracy on held-out pairs over the confidence of the scores, bin by bin; the diagonal is what it says."""
    figure, axes = new_axes()
    parts, ns = [], []
    for place, scorer in enumerate(_SCORER_NAMES):
        bins = run.metrics.get(scorer, {}).get("calibration", {}).get("curve", [])
        rows = [estimate_columns("right", row) | {"said": row["mean_confidence"]} for row in bins]
        if not rows:
            continue
        ns.append(sum(row["right_n"] for row in rows))
        axes.errorbar(
            [100 * row["said"] for row in rows],
            [100 * row["right"] for row in rows],
            yerr=100 * error_bars(rows, "right"),
            label=_SCORER_NAMES[scorer],
            color=_CURVE_STYLES[place][0],
            marker=_CURVE_STYLES[place][1],
            capsize=3,
        )
        told = ", ".join(f"{number(100 * row['said'], 0)} % {in_words(row, 'right')}" for row in rows)
        parts.append(f"{_SCORER_NAMES[scorer]}: {told}")
    if not parts:
        return None
    axes.plot([50, 100], [50, 100], color=NEUTRAL, linewidth=1, linestyle="--")
    axes.set(title="Confidence and accuracy", xlabel="confidence, %", ylabel="% right", xlim=(48, 102))
    axes.set_ylim(top=max(axes.get_ylim()[1], 102))
    figure.legend(loc="outside lower center", ncols=1)
    caption = (
        f"{n_in_words(ns, 'held-out pairs')} a scorer, in bins of their confidence, 95 % intervals. Below the dashed"
        " line a scorer is surer than it is right."
    )
    said = f"Share of pairs right, by confidence. {'; '.join(parts)}."
    return Plot("calibration", "Confidence and accuracy", said, figure, caption)


def reward_model_table(run: Run) -> pd.DataFrame:
    """One row per scorer of held-out pairs (`reward_model`, `judge_reward_model`, `implicit_reward`).

    `accuracy` stands beside trivial rules on the same pairs, `longer_wins` and `title_overlap_wins` (each
    with interval and n); `agrees_with_longer` (share) and `beats_longer_wins` (a verdict, or empty) say how
    much of it is length.
    """
    rows = []
    for scorer in ("reward_model", "judge_reward_model", "implicit_reward"):
        measured = run.metrics.get(scorer)
        if not measured:
            continue
        row: dict[str, Any] = {"scorer": scorer}
        for field in ("accuracy", "longer_wins", "title_overlap_wins"):
            row |= estimate_columns(field, measured.get(field))
        row |= estimate_columns("agrees_with_longer", with_interval(measured, "agrees_with_longer"))
        row["posts"] = to_number(measured.get("posts"))
        rows.append(row | {"beats_longer_wins": measured.get("beats_longer_wins", "")})
    return pd.DataFrame(rows, columns=None if rows else ["scorer"]).set_index("scorer")


def _against_length(row: Row) -> Block:
    """Whether a reward model learned more than length; where that is not shown, a note."""
    name = "The reward model" if row["scorer"] == "reward_model" else "The judge's reward model"
    numbers = (
        f"it is right on {in_words(row, 'accuracy')} of {count(row.get('accuracy_n'))} held-out pairs,"
        f" the rule “the longer summary wins” on {in_words(row, 'longer_wins')}"
    )
    if row["beats_longer_wins"] == "supported":
        return Text(f"{name} beats “longer wins”: {numbers}.")
    if row["beats_longer_wins"] == "contradicted":
        return Note(f"{name} is worse than “longer wins”: {numbers}. What it rewards is no better than length.")
    return Note(
        f"{name} does not beat “longer wins” as far as these pairs can show: {numbers}."
        " A gain in its score may be a gain in length."
    )
