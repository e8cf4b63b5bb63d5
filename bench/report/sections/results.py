"""What each arm reached: wins against the reference summary, and what stands beside them."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.arms import REFERENCE
from bench.evaluate.decisions import CONTRADICTED, SUPPORTED
from bench.report.columns import (
    ARM,
    BESIDE,
    KL,
    LENGTHS,
    Column,
    cost_column,
    estimate_column,
    marked_arm,
    marked_judge,
    share_column,
    table_of,
    time_column,
    win_rate_columns,
)
from bench.report.distrust import failed_checks
from bench.report.load import Run, estimate_columns, records
from bench.report.page import Block, Figures, Note
from bench.report.plot import NEUTRAL, Plot, dots, per_cent_axis, slug, styled
from bench.report.sections.head_to_head import head_to_head_table
from bench.report.words import NONE, Cell, Row, arm_name, count, has, in_words, is_number, judge_name, n_in_words, plain


def section(run: Run) -> list[Block]:
    table = records(arm_table(run))
    failed = failed_checks(run)
    judges = [judge for judge in run.judges if has(table, f"win_rate_{judge}")]
    table.sort(key=lambda row: _place(row, judges))
    notes = [*run.metrics.get("missing", []), *run.metrics.get("data", {}).get("notes", [])]
    blocks: list[Block] = [Note(" ".join(notes))] if notes else []
    blocks.append(table_of(_caption(table, judges), _answers(run, table, judges, failed), table, _note(table, failed)))
    if judges:
        blocks.append(Figures(win_rates(run)))
    others = table_of("More of each arm", _others(run, table, judges), table, _OF_THE_OTHERS if judges else "")
    return [*blocks, replace(others, folded=True)] if len(others.columns) > 1 else blocks


def _place(row: Row, judges: Sequence[str]) -> tuple[Any, ...]:
    """From the highest win rate by the first judge to the lowest, what has none behind them in its old order."""
    rate = row.get(f"win_rate_{judges[0]}", math.nan) if judges else math.nan
    return (0, -rate) if is_number(rate) else (1, 0)


def _caption(table: Sequence[Row], judges: Sequence[str]) -> str:
    known = {row[f"win_rate_{judge}_n"] for judge in judges for row in table if is_number(row.get(f"win_rate_{judge}"))}
    if not known:
        return "Arms, with 95 % intervals in brackets"
    return f"Arms, with 95 % intervals in brackets, over {n_in_words(known)}"


def _answers(run: Run, table: Sequence[Row], judges: Sequence[str], failed: Container[str]) -> list[Column]:
    """What a reader asks first: who wins, also at equal length, how far from SFT, how long, at what cost."""
    time = "gpu_hours" if _on_gpu(table) else "device_hours"
    return [
        ARM,
        *(
            _marked(column, run, judge)
            for column, judge in zip(win_rate_columns(judges, failed=failed), judges, strict=True)
        ),
        *(
            share_column(f"equal_length_{judge}", f"at equal length, {marked_judge(judge, judge in failed)}")
            for judge in judges[:1]
        ),
        KL,
        *LENGTHS,
        *(estimate_column(f"rating_{column}", f"mean {plain(column)}") for column in _ratings(run)),
        time_column(time, "GPU time" if _on_gpu(table) else "device time", table),
    ]


def _others(run: Run, table: Sequence[Row], judges: Sequence[str]) -> list[Column]:
    return [
        ARM,
        *BESIDE,
        share_column("finished", "ended with EOS"),
        cost_column("peak_memory_gib", "peak memory (GiB)"),
        *(_counts_column(judge) for judge in judges),
    ]


_OF_THE_OTHERS = "Verdicts behind the win rates: n / ties / unparsed; an unparsed verdict leaves n."


def _on_gpu(table: Sequence[Row]) -> bool:
    """On a GPU the GPU-hours are what a reader compares; on a CPU they are 0."""
    return any(row.get("gpu_hours", 0) > 0 for row in table)


def _note(table: Sequence[Row], failed: Mapping[str, str]) -> str:
    note = (
        "Win rate: share of held-out posts on which the arm's summary beats the reference summary, a tie counting"
        " half. KL: policy against the SFT model, nats per completion."
    )
    if any(has(table, column) for column in table[0] if column.startswith("win_rate_")):
        note += " Best: decided to beat every other arm head to head by that judge; without it no arm is."
    if has(table, "device_hours"):
        note += " Time: of the stages that the arm needs beyond the SFT model, over all devices."
    if any(row.get("kl_ref_estimator") == "bound" for row in table):
        note += " The KL of the best of n is an upper bound, log n - (n - 1)/n: no policy with log-probs wrote it."
    limits: dict[str, list[str]] = {}
    for row in table:
        if is_number(row.get("kl_ref_limit")):
            limits.setdefault(row["kl_ref_limit"], []).append(arm_name(row["arm"], short=True))
    if limits:
        said = "; ".join(f"{', '.join(arms)}: {limit}" for limit, arms in limits.items())
        note += f" Where a few summaries carry the mean KL, read the median: {said}."
    return " ".join([note, *failed.values()])


def best_arm(run: Run, judge: str) -> str | None:
    """The arm that was decided to beat every other one head to head; None where there is no such arm."""
    duels = [row for row in records(head_to_head_table(run)) if row["judge"] == judge]
    arms = [arm for arm in run.arms if arm != REFERENCE]
    beaten: dict[str, set[str]] = {arm: set() for arm in arms}
    for row in duels:
        for winner, loser, word in (
            (row["arm_a"], row["arm_b"], SUPPORTED),
            (row["arm_b"], row["arm_a"], CONTRADICTED),
        ):
            if row["first_is_better"] == word and winner in beaten:
                beaten[winner].add(loser)
    return next((arm for arm in arms if len(arms) > 1 and beaten[arm] >= set(arms) - {arm}), None)


def _marked(column: Column, run: Run, judge: str) -> Column:
    """The same, with the best arm marked where there is one."""
    best = best_arm(run, judge)

    def write(row: Row) -> Cell:
        cell = column.write(row)
        return cell._replace(tone="good", interval=f"best {cell.interval}".strip()) if row["arm"] == best else cell

    return column._replace(write=write)


def _ratings(run: Run) -> list[str]:
    """The columns of ratings that the files of completions made elsewhere have."""
    return sorted({column for arm in run.metrics["arms"].values() for column in arm.get("ratings", {})})


def arm_table(run: Run) -> pd.DataFrame:
    """One row per arm. An estimate `x` is four columns: `x`, `x_low`, `x_high` (95 % interval) and `x_n`.

    Columns, as far as the run has them: `win_rate_<judge>` (share of prompts won against the reference
    summary; also `_ties`, `_unparsed`), `equal_length_<judge>` (the same with length controlled), `rougeL` (F1, 0
    to 1), `kl_ref` (nats per completion), `reward_gold`, `reward_proxy`, `gain_gold`, `gain_proxy` (reward over the SFT
    model's), `length_tokens`, `finished` (share), and what the arm cost beyond the SFT model: `device_hours`,
    `gpu_hours`, `peak_memory_gib`. `kl_ref_estimator` says what `kl_ref` is (`bound`: at most that), `kl_ref_median`
    and `kl_ref_top_share` how much of it a few completions are, `kl_ref_limit` why its interval is none of 95 %;
    `collapsed` says whether the arm's training did.
    """
    rows = []
    for arm in run.arms:
        measured = run.metrics["arms"][arm]
        row: dict[str, Any] = {"arm": arm}
        if arm in run.metrics.get("health", {}):
            row["collapsed"] = run.metrics["health"][arm]["collapsed"]
        for judge in run.judges:
            row |= estimate_columns(f"win_rate_{judge}", measured.get("win_rate", {}).get(judge))
            controlled = measured.get("win_rate_length_controlled", {}).get(judge)
            row |= estimate_columns(f"equal_length_{judge}", controlled)
        row |= estimate_columns("rougeL", measured.get("rouge", {}).get("rougeL"))
        row |= estimate_columns("kl_ref", measured.get("kl_ref"))
        kl = measured.get("kl_ref") or {}
        row |= {f"kl_ref_{name}": kl[name] for name in ("estimator", "limit") if kl.get(name)}
        row |= estimate_columns("kl_ref_median", kl.get("median"))
        row |= estimate_columns("kl_ref_top_share", kl.get("top_share"))
        for kind in ("gold", "proxy"):
            row |= estimate_columns(f"reward_{kind}", measured.get("reward", {}).get(kind))
            row |= estimate_columns(f"gain_{kind}", measured.get("gain", {}).get(kind))
        for length in ("length_tokens", "length_words"):
            row |= estimate_columns(length, measured.get(length))
        for column, rating in measured.get("ratings", {}).items():
            row |= estimate_columns(f"rating_{column}", rating)
        row |= estimate_columns("finished", measured.get("finished"))
        cost = measured.get("cost") or {}
        row |= {field: cost[field] for field in ("device_hours", "gpu_hours", "peak_memory_gib") if field in cost}
        rows.append(row)
    return pd.DataFrame(rows).set_index("arm")


@styled
def win_rates(run: Run) -> list[Plot]:
    """Per judge: the win rate of each arm against the reference summary, a dot with its 95 % interval, best on top."""
    table = records(arm_table(run))
    failed = failed_checks(run)
    plots = []
    for judge in run.judges:
        column = f"win_rate_{judge}"
        rows = sorted((row for row in table if is_number(row.get(column))), key=lambda row: -row[column])
        if not rows:
            continue
        title = f"Win rate, {marked_judge(judge, judge in failed)}"
        figure, axes = dots([marked_arm(row) for row in rows], rows, column, among=run.arms, scale=100)
        per_cent_axis(axes.xaxis)
        axes.axvline(50, color=NEUTRAL, linewidth=1, linestyle="--")
        axes.set(title=title, xlabel="% of posts won against the reference summary")
        parts = ", ".join(
            f"{arm_name(row['arm'])}{' (collapsed)' if row.get('collapsed') is True else ''} {in_words(row, column)}"
            for row in rows
        )
        ns = [row[f"{column}_n"] for row in rows if is_number(row.get(f"{column}_n"))]
        caption = (
            f"{n_in_words(ns)}, 95 % intervals. Right of the dashed line an arm's summaries beat the reference ones."
        )
        plots.append(
            Plot(f"win_rate_{slug(judge)}", title, f"{title}, against the reference: {parts}.", figure, caption)
        )
    return plots


def _counts_column(judge: str) -> Column:
    def write(row: Row) -> Cell:
        if not is_number(row.get(f"win_rate_{judge}_n")):
            return Cell(NONE)
        return Cell(" / ".join(count(row.get(f"win_rate_{judge}_{what}")) for what in ("n", "ties", "unparsed")))

    return Column(f"verdicts, {judge_name(judge)}", write)
