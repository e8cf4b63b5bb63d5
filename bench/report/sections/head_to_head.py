"""Which arm is better: pair by pair, by way of the reference summary, and on one scale."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.patches import Rectangle

from bench.arms import REFERENCE
from bench.evaluate.decisions import CONTRADICTED, SUPPORTED, decide
from bench.report.columns import (
    ARM,
    JUDGE,
    PAIR,
    Column,
    count_column,
    estimate_column,
    marked_judge,
    p_column,
    points_column,
    share_column,
    table_of,
    verdict,
)
from bench.report.distrust import failed_checks, judge_called, unlike_posts, with_fails
from bench.report.load import COMPARED, NOT_TRAINED, Run, estimate_columns, frame, records, to_number
from bench.report.page import Block, Figures, Table, Text
from bench.report.plot import NEUTRAL, SERIES, Plot, dots, new_axes, rows_axis, slug, styled
from bench.report.words import Cell, Row, arm_name, count, has, in_words, is_number, n_in_words, number

_MOST_ROWS = 20
"""Of a table that stands open."""


def section(run: Run) -> list[Block]:
    failed = failed_checks(run)
    duels = with_fails(run, records(head_to_head_table(run)))
    if not duels:
        return []
    note = (
        "Each arm stands at the KL that it reached, see above. p: two-sided sign test over the untied prompts."
        " “No difference found” is not “no difference”."
    )
    if has(duels, "p_holm"):
        note += (
            " Holm: p adjusted for all pairs under one judge. Decided: the interval excludes 50 % and Holm's p is below"
            " 0.05, so that of equal arms some pair is called different in at most 5 % of runs. Prompts needed: on how"
            " many a win rate like this one"
            " would be told from 50 % with 80 % power, a plan for another run and no finding of this one."
        )
    note = " ".join([note, *failed.values(), *unlike_posts(run)])
    columns = [
        PAIR,
        JUDGE,
        share_column("win_rate", "win rate"),
        share_column("equal_length", "at equal length"),
        Column("n", lambda row: Cell(count(row.get("win_rate_n")))),
        Column("ties", lambda row: Cell(count(row.get("win_rate_ties")))),
        Column("unparsed", lambda row: Cell(count(row.get("win_rate_unparsed")))),
        p_column("p_value", "p"),
        p_column("p_holm", "p (Holm)"),
        Column("is the first better?", lambda row: verdict(row["first_is_better"])),
        count_column("prompts_needed", "prompts needed"),
    ]
    first, others = _first_asked(run, duels)
    caption = "Share of prompts on which the first arm beats the second, a tie counting half"
    blocks: list[Block] = [table_of(caption, columns, first, note)]
    if others:
        blocks.append(replace(table_of(f"The same, {count(len(others))} rows more", columns, others), folded=True))
    blocks.append(Figures(pairwise_matrix(run)))
    blocks += _power(run)
    paired = with_fails(run, records(paired_wins_table(run)))
    if paired:
        blocks.append(
            _folded_where_long(
                "The same pairs by way of the reference summary: prompts on which each arm beats it",
                [
                    PAIR,
                    JUDGE,
                    count_column("both", "both"),
                    count_column("only_a", "only the first"),
                    count_column("only_b", "only the second"),
                    count_column("neither", "neither"),
                    points_column("difference", "win rate of the first minus the second's (points)"),
                    p_column("p_value", "p (McNemar)"),
                    p_column("p_holm", "p (Holm)"),
                ],
                paired,
                "A tie is no win in the counts and half a win in the difference. McNemar's exact test compares “only"
                " the first” with “only the second”.",
            )
        )
    of_arms = records(strength_table(run))
    if of_arms:
        judges = [judge for judge in run.judges if has(of_arms, f"strength_{judge}")]
        blocks += [
            table_of(
                f"All arms on one scale: Bradley-Terry strength in nats, {_zero(run, judges)} at 0",
                [ARM, *(estimate_column(f"strength_{j}", marked_judge(j, j in failed), 2) for j in judges)],
                of_arms,
                "From every pair at once, over"
                f" {count(max(row.get(f'strength_{judges[0]}_n', 0) for row in of_arms))} prompts. Between two arms"
                " d nats apart, the stronger wins on 1 / (1 + exp(-d)) of the prompts: 0.5 nats are 62 %, 1 is 73 %.",
            ),
            Figures(strengths(run)),
        ]
    return blocks


def _first_asked(run: Run, duels: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows that stand, and those to be folded away where there are many: what stands is of the arms that are the
    question, or where these are not there, of the arm that is first over all."""
    if len(duels) <= _MOST_ROWS:
        return [*duels], []
    first = [row for row in duels if {row["arm_a"], row["arm_b"]} <= COMPARED]
    if not first:
        judge = duels[0]["judge"]
        of_arms = [row for row in records(strength_table(run)) if is_number(row.get(f"strength_{judge}"))]
        of_arms = [row for row in of_arms if row["arm"] != REFERENCE]
        best = max(of_arms, key=lambda row: row[f"strength_{judge}"])["arm"] if of_arms else duels[0]["arm_a"]
        first = [row for row in duels if best in (row["arm_a"], row["arm_b"])]
    return first, [row for row in duels if row not in first]


def _folded_where_long(caption: str, columns: Sequence[Column], rows: Sequence[Row], note: str) -> Table:
    return replace(table_of(caption, columns, rows, note), folded=len(rows) > _MOST_ROWS)


def head_to_head_table(run: Run) -> pd.DataFrame:
    """One row per pair of arms and judge: `arm_a`, `arm_b`, `judge`, `win_rate`, `p_value`, `first_is_better`.

    `win_rate` is the share of prompts on which arm_a beats arm_b (with `_low`, `_high`, `_n`, `_ties`,
    `_unparsed`), `p_value` that of the two-sided sign test, `first_is_better` what the run decided. As far as
    the run has them: `p_holm` (adjusted over all pairs under one judge), `equal_length` (the win rate with
    length controlled), `prompts_needed` (to decide what is not decided).
    """
    rows = []
    for pair, measured in run.metrics.get("head_to_head", {}).items():
        arm_a, _, arm_b = pair.partition("_vs_")
        for judge in run.judges:
            if judge not in measured.get("win_rate", {}):
                continue
            row = {"arm_a": arm_a, "arm_b": arm_b, "judge": judge}
            row |= estimate_columns("win_rate", measured["win_rate"][judge])
            row |= estimate_columns("equal_length", measured.get("win_rate_length_controlled", {}).get(judge))
            row["p_value"] = to_number(measured.get("p_value", {}).get(judge))
            for field in ("p_holm", "prompts_needed"):
                if judge in measured.get(field, {}):
                    row[field] = to_number(measured[field][judge])
            # As the run decides it. Runs of before decided by the interval alone; theirs is decided anew.
            p_value = measured.get("p_holm", measured.get("p_value", {})).get(judge)
            row["first_is_better"] = decide(measured["win_rate"][judge], 0.5, p_value)
            rows.append(row)
    columns = [
        "arm_a",
        "arm_b",
        "judge",
        "win_rate",
        "win_rate_low",
        "win_rate_high",
        "win_rate_n",
        "p_value",
        "first_is_better",
    ]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    # The arm-against-arm question first (dpo_vs_ppo), then each arm against the baselines.
    baselines = table["arm_a"].isin(list(NOT_TRAINED)).astype(int) + table["arm_b"].isin(list(NOT_TRAINED)).astype(int)
    return table.iloc[baselines.argsort(kind="stable")].reset_index(drop=True)


def paired_wins_table(run: Run) -> pd.DataFrame:
    """One row per pair of arms and judge: their wins against the reference summaries on the same prompts.

    `both`, `only_a`, `only_b`, `neither` are counts of prompts; `difference` is arm_a's win rate minus arm_b's;
    `p_value` is McNemar's, `p_holm` the same adjusted over all pairs under one judge.
    """
    duels = run.metrics.get("head_to_head", {})
    rows = []
    for pair in records(head_to_head_table(run)):
        names = {name: pair[name] for name in ("arm_a", "arm_b", "judge")}
        paired = duels[f"{pair['arm_a']}_vs_{pair['arm_b']}"].get("mcnemar", {}).get(pair["judge"])
        if paired is None:
            continue
        counts = {name: paired[name] for name in ("both", "only_a", "only_b", "neither", "p_value", "p_holm")}
        rows.append(names | counts | estimate_columns("difference", paired["difference"]))
    return frame(rows, "arm_a", "arm_b", "judge", "difference", "p_value", "p_holm")


def strength_table(run: Run) -> pd.DataFrame:
    """One row per arm: its Bradley-Terry `strength_<judge>` in nats (estimate), the reference summary at 0."""
    fits = run.metrics.get("bradley_terry", {})
    rows = []
    for arm in run.arms:
        row: dict[str, Any] = {"arm": arm}
        for judge in run.judges:
            row |= estimate_columns(f"strength_{judge}", fits.get(judge, {}).get(arm))
        if len(row) > 1:
            rows.append(row)
    return frame(rows, "arm")


@styled
def pairwise_matrix(run: Run) -> list[Plot]:
    """Per judge: the per cent of posts on which the arm of the row beats the arm of the column, decided ones framed."""
    table = records(head_to_head_table(run))
    plots = []
    for judge in run.judges:
        duels = [row for row in table if row["judge"] == judge and is_number(row.get("win_rate"))]
        arms = [arm for arm in run.arms if any(arm in (row["arm_a"], row["arm_b"]) for row in duels)]
        if len(arms) < 3:
            continue
        figure, axes = new_axes((max(4.8, 1.6 + 0.5 * len(arms)), 1.9 + 0.36 * len(arms)))
        for row in duels:
            for one, other, rate in (
                (row["arm_a"], row["arm_b"], row["win_rate"]),
                (row["arm_b"], row["arm_a"], 1 - row["win_rate"]),
            ):
                x, y = arms.index(other), arms.index(one)
                is_open = row["first_is_better"] not in (SUPPORTED, CONTRADICTED)
                colour, alpha = SERIES[rate < 0.5], 0.08 + 0.75 * abs(rate - 0.5)
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0))
                weight = "normal" if is_open else "bold"
                axes.text(x, y, f"{100 * rate:.0f}", ha="center", va="center", weight=weight)
        names = [arm_name(arm, short=True) for arm in arms]
        rows_axis(axes, names)
        axes.set_xticks(range(len(arms)), names, rotation=35, ha="right")
        axes.set_xlim(-0.5, len(arms) - 0.5)
        axes.grid(False)
        title, p = f"Who beats whom, {judge_called(run, judge)}", "Holm's p" if has(duels, "p_holm") else "p"
        axes.set(title=title, xlabel="% of posts on which the row beats the column")
        told = [f"{arm_name(row['arm_a'])} over {arm_name(row['arm_b'])} {in_words(row, 'win_rate')}" for row in duels]
        ns = [row["win_rate_n"] for row in duels if is_number(row.get("win_rate_n"))]
        caption = (
            f"{n_in_words(ns)} a pair, a tie counts half; bold: decided (interval and {p}). Intervals are in the"
            " table above. Read along a row: whom this arm beats."
        )
        plots.append(Plot(f"pairwise_{slug(judge)}", title, f"{title}: {'; '.join(told)}.", figure, caption))
    return plots


@styled
def strengths(run: Run) -> list[Plot]:
    """Per judge: the Bradley-Terry strength of every arm with its interval, the reference summary at 0."""
    table = records(strength_table(run))
    plots = []
    for judge in run.judges:
        column = f"strength_{judge}"
        rows = sorted((row for row in table if is_number(row.get(column))), key=lambda row: -row[column])
        if not rows:
            continue
        title = f"Bradley-Terry strength, {judge_called(run, judge)}"
        figure, axes = dots([arm_name(row["arm"], short=True) for row in rows], rows, column, among=run.arms)
        axes.axvline(0, color=NEUTRAL, linewidth=1, linestyle="--")
        axes.set(title=title, xlabel="nats")
        parts = ", ".join(f"{arm_name(row['arm'])} {number(row[column], 2)}" for row in rows)
        ns = [row[f"{column}_n"] for row in rows if is_number(row.get(f"{column}_n"))]
        caption = (
            f"{n_in_words(ns)}, 95 % intervals; dashed: {_zero(run, [judge])}. From all pairs of arms at once; 0.5 nats"
            " apart, the stronger arm wins 62 % of posts."
        )
        plots.append(Plot(f"strength_{slug(judge)}", title, f"{title}, nats: {parts}.", figure, caption))
    return plots


def _zero(run: Run, judges: Sequence[str]) -> str:
    """From which arm strengths are told: the reference summary, or where a judge never saw one an arm of the run."""
    zeros = run.metrics.get("bradley_terry_zero", {})
    return " or ".join(dict.fromkeys(arm_name(zeros.get(judge, REFERENCE)) for judge in judges))


def _power(run: Run) -> list[Block]:
    """What this many prompts can show, said beside what they did."""
    power = run.metrics.get("power")
    if not power:
        return []
    alone, between = (
        "none, however large" if power[gap] is None else f"{number(100 * power[gap], 1)} points"
        for gap in ("head_to_head", "between_arms")
    )
    return [
        Text(
            f"What {count(power['n'])} prompts can show: the smallest difference found with"
            f" {number(100 * power['power'], 0)} % power at the {number(100 * power['level'], 0)} % level is, head to"
            f" head without ties, {alone} from 50 %, and between two arms' win rates on prompts of their own"
            f" {between}. A smaller one is likely to end as not decided at this n."
        )
    ]
