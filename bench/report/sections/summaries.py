"""What the summaries are like: invented numbers and names, copying, novelty, variety, closeness to the post."""

from typing import Any

import pandas as pd

from bench.report.columns import marked_arm
from bench.report.load import Run, estimate_columns, frame, records
from bench.report.page import Block, Table
from bench.report.words import Cell, Row, estimate, is_number, share


def section(run: Run) -> list[Block]:
    rows = records(summary_table(run))
    if not rows:
        return []
    arms = {row["arm"]: row for row in rows}
    metrics = {row["metric"]: row for row in rows}
    cells = {(row["metric"], row["arm"]): _cell(row) for row in rows}
    return [
        Table(
            "Of the summaries, by measures that see the text alone: means, with n where some do not count",
            ["measure", *(marked_arm(row) for row in arms.values())],
            [
                [Cell(row["title"], row["note"]), *(cells.get((metric, arm), Cell("")) for arm in arms)]
                for metric, row in metrics.items()
            ],
            "No measure says which summary is better: the reference summaries stand beside the arms as what people do."
            " Where posts were cut to the token budget, people had read more of them than the models.",
        )
    ]


def summary_table(run: Run) -> pd.DataFrame:
    """One row per measure and arm: `value` (an estimate), and how it is shown: `title`, `unit`, `note`.

    `all_n` counts the arm's summaries; fewer in `value_n` means that the measure does not apply to some.
    """
    rows = []
    for metric, words in run.metrics.get("summary_metrics", {}).items():
        for arm in run.arms:
            found = run.metrics["arms"][arm].get("summaries", {}).get(metric)
            if found is not None:
                row: dict[str, Any] = {"metric": metric, "arm": arm, **words, **estimate_columns("value", found)}
                measured = run.metrics["arms"][arm]
                length = measured.get("length_tokens") or measured["length_words"]  # one of them is of all
                rows.append(row | {"all_n": length["n"]})
    return frame(rows, "metric", "arm", "value")


def _cell(row: Row) -> Cell:
    some_do_not_count = is_number(row.get("value_n")) and row["value_n"] < row["all_n"]
    if row["unit"] == "share":
        return share(row, "value", with_n=some_do_not_count)
    cell = estimate(row, "value", 2)
    return cell._replace(interval=f"{cell.interval} n {row['value_n']}".strip()) if some_do_not_count else cell
