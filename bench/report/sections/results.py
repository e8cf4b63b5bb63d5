"""What each arm reached: wins against the reference summary, and what stands beside them."""

from typing import Any

import pandas as pd

from bench.report.columns import (
    ARM,
    MEASURES,
    Column,
    cost_column,
    estimate_column,
    share_column,
    table_of,
    win_rate_columns,
)
from bench.report.load import Run, estimate_columns, records
from bench.report.page import Block, Figures, Note
from bench.report.plot import NEUTRAL, Plot, arm_colour, error_bars, new_axes, slug, styled
from bench.report.words import Cell, Row, arm_name, count, has, in_words, is_number, judge_name, plain


def section(run: Run) -> list[Block]:
    table = records(arm_table(run))
    # On a GPU the GPU-hours are what a reader compares; on a CPU they are 0.
    on_gpu = any(row.get("gpu_hours", 0) > 0 for row in table)
    columns = [
        ARM,
        *win_rate_columns(run.judges, with_n=True),
        *MEASURES,
        *(estimate_column(f"rating_{column}", f"mean {plain(column)}") for column in _ratings(run)),
        share_column("finished", "ended with EOS"),
        cost_column("gpu_hours", "GPU-hours") if on_gpu else cost_column("device_hours", "device-hours"),
        cost_column("peak_memory_gib", "peak memory (GiB)"),
    ]
    note = (
        "Win rate: share of held-out prompts on which the arm's summary beats the reference summary, a tie counting"
        " half. KL: policy against the SFT model, nats per completion."
    )
    if has(table, "device_hours"):
        note += " Hours and memory: the stages that the arm needs beyond the SFT model."
    if any(row.get("kl_ref_estimator") == "bound" for row in table):
        note += " The KL of the best of n is an upper bound, log n - (n - 1)/n: no policy with log-probs wrote it."
    limits: dict[str, list[str]] = {}
    for row in table:
        if is_number(row.get("kl_ref_limit")):
            limits.setdefault(row["kl_ref_limit"], []).append(arm_name(row["arm"], short=True))
    if limits:
        said = "; ".join(f"{', '.join(arms)}: {limit}" for limit, arms in limits.items())
        note += f" What the interval of a mean KL cannot know: {said}."
    notes = [*run.metrics.get("missing", []), *run.metrics.get("data", {}).get("notes", [])]
    blocks: list[Block] = [Note(" ".join(notes))] if notes else []
    blocks += [table_of("Arms, with 95 % intervals in brackets", columns, table, note)]
    judges = [judge for judge in run.judges if has(table, f"win_rate_{judge}")]
    if judges:
        judged = [row for row in table if any(is_number(row.get(f"win_rate_{judge}")) for judge in judges)]
        blocks += [
            Figures(win_rate_bars(run)),
            table_of(
                "Verdicts behind the win rates: n / ties / unparsed (an unparsed verdict leaves n)",
                [ARM, *(_counts_column(judge) for judge in judges)],
                judged,
            ),
        ]
    return blocks


def _ratings(run: Run) -> list[str]:
    """The columns of ratings that the files of completions made elsewhere have."""
    return sorted({column for arm in run.metrics["arms"].values() for column in arm.get("ratings", {})})


def arm_table(run: Run) -> pd.DataFrame:
    """One row per arm. An estimate `x` is four columns: `x`, `x_low`, `x_high` (95 % interval) and `x_n`.

    Columns, as far as the run has them: `win_rate_<judge>` (share of prompts won against the reference
    summary; also `_ties`, `_unparsed`), `rougeL` (F1, 0 to 1), `kl_ref` (nats per completion), `reward_gold`,
    `reward_proxy`, `gain_gold`, `gain_proxy` (reward over the SFT model's), `length_tokens`, `finished` (share), and
    what the arm cost beyond the SFT model: `device_hours`, `gpu_hours`, `peak_memory_gib`. `kl_ref_estimator` says what
    `kl_ref` is (`bound`: at most that), `kl_ref_median` and `kl_ref_top_share` how much of it a few completions are,
    `kl_ref_limit` why its interval is none of 95 %; `collapsed` says whether the arm's training did.
    """
    rows = []
    for arm in run.arms:
        measured = run.metrics["arms"][arm]
        row: dict[str, Any] = {"arm": arm}
        if arm in run.metrics.get("health", {}):
            row["collapsed"] = run.metrics["health"][arm]["collapsed"]
        for judge in run.judges:
            row |= estimate_columns(f"win_rate_{judge}", measured.get("win_rate", {}).get(judge))
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
            color=[arm_colour(row["arm"], run.arms) for row in rows],
            capsize=4,
            width=0.6,
        )
        axes.axhline(50, color=NEUTRAL, linewidth=1, linestyle="--")
        axes.set(title=title, ylabel="% of prompts", ylim=(0, 100))
        axes.set_xlabel("dashed: as good as the reference summary")
        axes.grid(False, axis="x")
        parts = ", ".join(
            f"{arm_name(row['arm'])}{' (collapsed)' if row.get('collapsed') is True else ''} {in_words(row, column)}"
            for row in rows
        )
        plots.append(Plot(f"win_rate_{slug(judge)}", title, f"{title}, against the reference: {parts}.", figure))
    return plots


def _marked(row: Row) -> str:
    name = arm_name(row["arm"], short=True)
    return f"{name}\n(collapsed)" if row.get("collapsed") is True else name


def _counts_column(judge: str) -> Column:
    return Column(
        judge_name(judge),
        lambda row: Cell(" / ".join(count(row.get(f"win_rate_{judge}_{what}")) for what in ("n", "ties", "unparsed"))),
    )
