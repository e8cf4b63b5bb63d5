"""What the judges prefer beside the better summary, and what they used up."""

from typing import Any

import pandas as pd

from bench.report.columns import JUDGE, count_column, share_column, table_of
from bench.report.load import Run, estimate_columns, frame, records, with_interval
from bench.report.page import Block
from bench.report.words import is_number


def section(run: Run) -> list[Block]:
    rows = records(judge_table(run))
    if not rows:
        return []
    blocks: list[Block] = [
        table_of(
            "What each judge prefers beside the better summary, over all its verdicts of this run",
            [
                JUDGE,
                share_column("position_bias", "chose the one shown first", with_n=True),
                share_column("length_bias", "chose the longer one", with_n=True),
                share_column("flip_rate", "changed its mind with the order"),
                count_column("decided", "decided"),
                count_column("ties", "ties"),
                count_column("unparsed", "unparsed"),
            ],
            rows,
            "Shares of decided verdicts, with intervals over prompts (n). 50 % shown first is no preference. Where the"
            " longer summary is the better one, an unbiased judge chooses it more often than not.",
        )
    ]
    asked = [row for row in rows if is_number(row.get("requests"))]
    if asked:
        used = ("requests", "retries", "cached", "prompt_tokens", "completion_tokens")
        blocks.append(
            table_of(
                "What the judges that are asked have used up in this run",
                [JUDGE, *(count_column(name, name.replace("_", " ")) for name in used)],
                asked,
                "Cached: answers that an earlier run had bought.",
            )
        )
    return blocks


def judge_table(run: Run) -> pd.DataFrame:
    """One row per judge: its habits over all verdicts of the run, and what it used up where it is asked.

    `position_bias` (share for the summary shown first) and `length_bias` (for the longer one) are estimates over
    prompts; `flip_rate` is the share of prompts on which its two orders disagree, NaN where one was shown;
    `decided`, `ties`, `unparsed` count verdicts; `requests`, `retries`, `cached`, `prompt_tokens`,
    `completion_tokens` are there for judges that are asked.
    """
    rows = []
    for judge, habits in run.metrics.get("judges", {}).items():
        row: dict[str, Any] = {"judge": judge}
        for bias in ("position_bias", "length_bias"):
            row |= estimate_columns(bias, habits.get(bias))
        row |= estimate_columns("flip_rate", with_interval(habits, "flip_rate"))
        row |= {name: habits[name] for name in ("decided", "ties", "unparsed") if name in habits}
        rows.append(row | {name: n for name, n in habits.get("usage", {}).items() if name != "unparsed"})
    return frame(rows, "judge")
