"""Which completions are no summary."""

from typing import Any

import pandas as pd

from bench.report.columns import ARM, count_column, share_column, table_of
from bench.report.load import Run, estimate_columns, frame, records
from bench.report.page import Block

DETECTORS = {
    "any": "any of these",
    "empty": "empty",
    "title_copy": "copies the title",
    "post_copy": "copies the post",
    "repetition": "repeats itself",
    "prompt_echo": "goes on with the prompt",
    "no_eos": "cut off (no EOS)",
}


def section(run: Run) -> list[Block]:
    rows = records(degeneration_table(run))
    if not rows:
        return []
    return [
        table_of(
            "Completions that are no summary, by their text alone: share of each arm's",
            [
                ARM,
                *(share_column(name, title) for name, title in DETECTORS.items()),
                count_column("any_n", "n"),
            ],
            rows,
            "ROUGE can rise by copying, and a reward on loops. The reference summaries stand beside the arms because"
            " people copy and repeat a little too.",
        )
    ]


def degeneration_table(run: Run) -> pd.DataFrame:
    """One row per arm: per detector (DETECTORS) the share of completions that it finds."""
    rows = []
    for arm in run.arms:
        found = run.metrics["arms"][arm].get("degeneration")
        if found:
            row: dict[str, Any] = {"arm": arm}
            for detector in DETECTORS:
                row |= estimate_columns(detector, found.get(detector))
            rows.append(row)
    return frame(rows, "arm")
