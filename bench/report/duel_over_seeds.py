"""Two arms over runs that differ in their seed alone: who wins head to head, by how much, and what each pays in KL."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.evaluate.claims_over_runs import LEAST_SEEDS, decided_by_interval
from bench.evaluate.decisions import CONTRADICTED, SUPPORTED
from bench.evaluate.seeds import duels_across_seeds
from bench.report.by_prompt import Verdicts
from bench.report.columns import JUDGE, PAIR, count_column, points_column, share_column, table_of
from bench.report.load import ASKED, NOT_TRAINED, Run, estimate_columns, frame, records, to_number
from bench.report.page import Table
from bench.report.plot import NEUTRAL, Plot, arm_colour, error_bars, new_axes, slug, styled
from bench.report.words import Row, arm_name, count, in_words, is_number, judge_name, n_in_words, number, points


def duel_summaries(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per pair of trained arms and judge: means over seeds, `win_rate` of the first against the second, and
    `difference` of their win rates against the reference summary, with the counts `seeds`, `posts` (judged head to head
    in each seed, at least) and `prompts` (that all seeds share)."""
    rows = []
    for judge in runs[0].judges:
        verdicts = Verdicts(runs, judge)
        for pair in runs[0].metrics.get("head_to_head", {}):
            a, _, b = pair.partition("_vs_")
            if {a, b} & NOT_TRAINED:
                continue
            metrics, points = [run.metrics for run in runs], verdicts.of_a_duel(a, b)
            found = duels_across_seeds(metrics, pair, judge, points, verdicts.shared)
            row: dict[str, Any] = {"arm_a": a, "arm_b": b, "judge": judge}
            for name, mean in found.items():
                if mean is not None:
                    row |= {"seeds": mean["n"], "prompts": to_number(mean["prompts"])}
                    row |= estimate_columns(name, {"value": mean["mean"], "ci95": mean["ci95"]})
            if found["win_rate"] is not None:
                row["posts"] = min(of["head_to_head"][pair]["win_rate"][judge]["n"] for of in metrics)
            if "seeds" in row:
                rows.append(row)
    return frame(rows, "arm_a", "arm_b", "judge")


def duel_points(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per pair of trained arms, judge and seed: `win_rate` of the first against the second."""
    rows = [
        {"arm_a": a, "arm_b": b, "judge": judge, "seed": run.setting("seed")} | estimate_columns("win_rate", rate)
        for run in sorted(runs, key=lambda run: run.setting("seed"))
        for pair, entry in run.metrics.get("head_to_head", {}).items()
        for a, b in [pair.split("_vs_")]
        if not {a, b} & NOT_TRAINED
        for judge, rate in entry["win_rate"].items()
    ]
    return frame(rows, "arm_a", "arm_b", "judge", "seed")


def duel_table(summaries: Sequence[Row], of_what: str) -> Table:
    """Every pair and judge of `duel_summaries`."""
    columns = [
        PAIR,
        JUDGE,
        share_column("win_rate", "win rate of the first"),
        points_column("difference", "win rate against the reference, first minus second (points)"),
        count_column("seeds", "seeds"),
        count_column("posts", "posts a seed"),
        count_column("prompts", "shared prompts"),
    ]
    note = "Means over seeds, with intervals as above."
    return table_of(f"Head to head over seeds{of_what}", columns, summaries, note)


def answer(runs: Sequence[Run], judge: str) -> list[str]:
    """The question in a sentence by `judge`, and one for each other judge that decides it otherwise; nothing where the
    two arms were not compared in every seed."""
    asked = {row["judge"]: row for row in records(duel_summaries(runs)) if (row["arm_a"], row["arm_b"]) == ASKED}
    row = asked.get(judge)
    if row is None or not is_number(row.get("win_rate")):
        return []
    first, second = map(arm_name, ASKED)
    others = [row for name, row in asked.items() if name != judge and is_number(row.get("win_rate"))]
    kls = " against ".join(_kl(runs, arm) for arm in ASKED)
    return [
        f"{_verdict(row, first, second)} over {count(row['seeds'])} seeds of {count(row['posts'])} posts,"
        f" {judge_name(judge)}: {first} wins {in_words(row, 'win_rate')} head to head{_difference(row)}, at KL {kls}"
        f" nats to the SFT model{_too_few(row)}.",
        *(
            f"The {judge_name(other['judge'])} does not say so: {_verdict(other, first, second)}"
            f" ({in_words(other, 'win_rate')} head to head{_difference(other)})."
            for other in others
            if _decision(other) != _decision(row)
        ),
    ]


@styled
def duel_forest(summaries: pd.DataFrame, points: pd.DataFrame, judge: str) -> Plot | None:
    """Every seed's head-to-head win rate with its interval, and below them their mean with its own.

    Args:
        summaries, points: `duel_summaries` and `duel_points` of one group of runs.
    """
    means = [row for row in records(summaries) if (row["arm_a"], row["arm_b"], row["judge"]) == (*ASKED, judge)]
    if not means or not is_number(means[0].get("win_rate")):
        return None
    (mean,) = means
    seeds = [row for row in records(points) if (row["arm_a"], row["arm_b"], row["judge"]) == (*ASKED, judge)]
    figure, axes = new_axes((4.8, 1.2 + 0.26 * (len(seeds) + 1)))
    places = np.arange(len(seeds) + 1)[::-1]
    for rows, at, style in (
        (seeds, places[:-1], {"marker": "o", "markersize": 5, "color": arm_colour(ASKED[0])}),
        ([mean], places[-1:], {"marker": "D", "markersize": 8, "color": NEUTRAL, "linewidth": 2.2}),
    ):
        values = [100 * row["win_rate"] for row in rows]
        bars = 100 * error_bars(rows, "win_rate")
        axes.errorbar(values, at, xerr=bars, linestyle="none", capsize=3, **style)
    axes.axvline(50, color=NEUTRAL, linewidth=1, linestyle="--")
    axes.set_yticks(places, [*(f"seed {row['seed']}" for row in seeds), "mean"])
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    title = f"{first} against {second}, {judge_name(judge)}"
    axes.set(title=title, xlabel=f"% of posts that {first} wins head to head", ylim=(-0.6, len(seeds) + 0.6))
    axes.grid(False, axis="y")
    parts = [f"seed {row['seed']} {in_words(row, 'win_rate')}" for row in seeds]
    alt = f"{title}: mean over {len(seeds)} seeds {in_words(mean, 'win_rate')}; {', '.join(parts)}."
    ns = [row["win_rate_n"] for row in seeds if is_number(row.get("win_rate_n"))]
    caption = (
        f"{len(seeds)} seeds of {n_in_words(ns)}; 95 % intervals: a seed's over its posts, the mean's over seeds;"
        f" dashed: even. Where the diamond's interval is right of it, {first} wins as a method."
    )
    return Plot(f"head_to_head_over_seeds_{slug(judge)}", title, alt, figure, caption)


def _decision(row: Row) -> str:
    ends = [row.get("win_rate_low"), row.get("win_rate_high")]
    return decided_by_interval([end for end in ends if end is not None] if all(map(is_number, ends)) else None, 0.5)


def _verdict(row: Row, first: str, second: str) -> str:
    words = {SUPPORTED: f"{first} beats {second}", CONTRADICTED: f"{first} loses to {second}"}
    return words.get(_decision(row), f"{first} against {second} is not decided at this n")


def _difference(row: Row) -> str:
    """`, difference of win rates against the reference summary 5.6 points [4.0, 7.2]`; empty if not measured."""
    if not is_number(row.get("difference")):
        return ""
    cell = points(row, "difference")
    return f", difference of win rates against the reference summary {cell.text} points {cell.interval}".rstrip()


def _kl(runs: Sequence[Run], arm: str) -> str:
    """`1.76 (1.32 to 3.13)`: mean and range over seeds."""
    kls = [run.metrics["arms"][arm].get("kl_ref", {}).get("value") for run in runs]
    known = [kl for kl in kls if kl is not None]
    if not known:
        return f"unknown ({arm_name(arm, short=True)})"
    ends = f"{number(min(known), 2)} to {number(max(known), 2)}"
    return f"{number(float(np.mean(known)), 2)} ({arm_name(arm, short=True)}, {ends})"


def _too_few(row: Row) -> str:
    return f" ({count(row['seeds'])} seeds: an interval needs {LEAST_SEEDS})" if row["seeds"] < LEAST_SEEDS else ""
