"""What the judges prefer beside the better summary, and what they used up."""

from typing import Any

import pandas as pd

from bench.report.columns import ARM, JUDGE, count_column, share_column, table_of, text_column
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
    corrected = records(corrected_table(run))
    if corrected:
        blocks.append(
            table_of(
                "Win rates with the judge's errors taken out",
                [
                    ARM,
                    JUDGE,
                    share_column("win_rate", "win rate"),
                    share_column("corrected", "corrected"),
                    share_column("sensitivity", "finds the longer", with_n=True),
                    share_column("specificity", "finds the shorter", with_n=True),
                    text_column("reason", "why there is no number"),
                ],
                corrected,
                "What the win rate would be by the labels of the labelled pairs on which the judge was tried (n), if it"
                " is as good on the arms' summaries; it finds the longer summary so often where the labels prefer it,"
                " and the shorter one. Estimator of Rogan and Gladen; the interval holds the labels' error too.",
            )
        )
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


def corrected_table(run: Run) -> pd.DataFrame:
    """One row per arm and judge with labelled pairs: `win_rate`, `corrected`, `sensitivity`, `specificity` (estimates)
    and `reason`, None where there is a corrected win rate."""
    rows = []
    for arm in run.arms:
        measured = run.metrics["arms"][arm]
        for judge, found in measured.get("win_rate_corrected", {}).items():
            row: dict[str, Any] = {"arm": arm, "judge": judge, "reason": found["reason"]}
            row |= estimate_columns("win_rate", measured["win_rate"][judge])
            row |= estimate_columns("corrected", found)
            for name in ("sensitivity", "specificity"):
                row |= estimate_columns(name, run.metrics["judges"][judge]["labels"][name])
            rows.append(row)
    return frame(rows, "arm", "judge", "win_rate", "corrected", "sensitivity", "specificity", "reason")


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
