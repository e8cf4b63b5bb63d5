"""What the judges prefer beside the better summary, and what they used up."""

from itertools import combinations
from typing import Any

import pandas as pd

from bench.report.columns import (
    ARM,
    JUDGE,
    Column,
    count_column,
    estimate_column,
    share_column,
    table_of,
    text_column,
)
from bench.report.distrust import checks, failed_checks, judge_called
from bench.report.load import TRUTH, Run, estimate_columns, frame, records, with_interval
from bench.report.page import Block, Figures, Note
from bench.report.plot import NEUTRAL, Plot, error_bars, new_axes, per_cent_axis, point_style, slug, styled
from bench.report.sections.results import arm_table
from bench.report.words import Cell, Row, arm_name, count, in_words, is_number, judge_name, n_in_words

_AS_THEY_CAME = ("verdicts", "outcomes")
"""Kinds of judges of whom a file of completions has the verdicts alone."""


def section(run: Run) -> list[Block]:
    failed = failed_checks(run)
    rows = [{**row, "judge_fails": row["judge"] in failed} for row in records(judge_table(run))]
    if not rows:
        return []
    blocks: list[Block] = [
        *(Note(sentence) for sentence in failed.values()),
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
        ),
    ]
    if checked := checks(run):
        blocks.append(
            table_of(
                "Checks: how often a judge prefers to the reference summary what no judge should",
                [
                    JUDGE,
                    Column("prefers", lambda row: Cell(row["text"])),
                    share_column("rate", "how often", with_n=True),
                ],
                [{**row, "judge_fails": row["judge"] in failed} for row in checked],
                "A judge fails where the interval lies above 50 %.",
            )
        )
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
    agreement = records(agreement_table(run))
    if agreement:
        blocks.append(
            table_of(
                "How far each two judges agree",
                [
                    Column("judges", lambda row: Cell(f"{judge_name(row['judge'])} and {judge_name(row['other'])}")),
                    share_column("agreement", "say the same", with_n=True),
                    estimate_column("kappa", "Cohen's kappa", 2),
                    count_column("verdicts", "pairs of summaries"),
                ],
                agreement,
                "On the pairs of summaries that both were read on, by their verdicts over the orders shown; a tie"
                " against a decision counts half. Intervals are over prompts (n). A kappa of 0 is what chance gives.",
            )
        )
    if plots := judge_agreement(run):
        blocks.append(Figures(plots))
    return blocks + _asked([row for row in rows if is_number(row.get("requests"))])


_USED = ("requests", "retries", "cached", "prompt_tokens", "completion_tokens")
_NOT_READ = {
    "not_read": "answers not read",
    "cut_off": "cut off",
    "refused": "refused",
    "filtered": "filtered",
    "unfinished": "end not known",
    "empty": "empty",
}
"""Counts of questions; the first contains the others, and answers that were finished and name no summary."""


def _asked(rows: list[Row]) -> list[Block]:
    if not rows:
        return []
    return [
        table_of(
            "What the judges that are asked have used up in this run",
            [JUDGE, *(count_column(name, name.replace("_", " ")) for name in _USED)],
            rows,
            "Cached: answers that an earlier run had bought.",
        ),
        table_of(
            "Questions whose answer names no summary",
            [JUDGE, *(count_column(name, title) for name, title in _NOT_READ.items())],
            rows,
            "Of the answers not read: those cut off at max_answer_tokens, refused by the model, filtered by the"
            " endpoint, of which the server does not say how they ended, and empty ones. The rest was finished and"
            " could not be understood. Nothing is guessed.",
        ),
    ]


@styled
def judge_agreement(run: Run) -> list[Plot]:
    """For each two judges: the arms' win rates by the one over those by the other; on the diagonal they agree."""
    table = records(arm_table(run))
    agreed = {(row["judge"], row["other"]): row for row in records(agreement_table(run))}
    plots = []
    for first, second in combinations(run.judges, 2):
        x, y = f"win_rate_{first}", f"win_rate_{second}"
        rows = [row for row in table if is_number(row.get(x)) and is_number(row.get(y))]
        if not rows:
            continue
        figure, axes = new_axes((4.8, 4.4))
        axes.plot([0, 100], [0, 100], color=NEUTRAL, linewidth=1, linestyle="--")
        for row in rows:
            axes.errorbar(
                [100 * row[x]],
                [100 * row[y]],
                xerr=100 * error_bars([row], x),
                yerr=100 * error_bars([row], y),
                linestyle="none",
                label=arm_name(row["arm"], short=True),
                **point_style(row["arm"], run.arms),
            )
        per_cent_axis(axes.xaxis)
        per_cent_axis(axes.yaxis)
        title = f"Win rates by two judges: {judge_called(run, first)}, {judge_called(run, second)}"
        axes.set(
            title="Win rates by two judges",
            xlabel=f"%, {judge_called(run, first)}",
            ylabel=f"%, {judge_called(run, second)}",
        )
        figure.legend(loc="outside lower center", ncols=3)
        told = [f"{arm_name(row['arm'])} {in_words(row, x)} and {in_words(row, y)}" for row in rows]
        row = agreed.get((first, second)) or agreed.get((second, first)) or {}
        same = (
            f" They say the same of {in_words(row, 'agreement')} of pairs." if is_number(row.get("agreement")) else ""
        )
        caption = (
            f"{n_in_words([*(r[f'{x}_n'] for r in rows), *(r[f'{y}_n'] for r in rows)])}, 95 % intervals.{same} Above"
            " the dashed line the second judge is kinder to an arm than the first."
        )
        name = f"judges_{slug(first)}_{slug(second)}"
        plots.append(Plot(name, title, f"{title}: {'; '.join(told)}.", figure, caption))
    return plots


def agreement_table(run: Run) -> pd.DataFrame:
    """One row per two judges: `judge`, `other`, `agreement` and `kappa` (estimates over prompts), `verdicts`."""
    rows = []
    for entry in run.metrics.get("judge_agreement", []):
        judge, other = entry["judges"]
        row: dict[str, Any] = {"judge": judge, "other": other, "verdicts": entry["verdicts"]}
        for name in ("agreement", "kappa"):
            row |= estimate_columns(name, entry[name])
        rows.append(row)
    return frame(rows, "judge", "other", "verdicts", "agreement", "kappa")


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


def caveats(run: Run) -> list[str]:
    """What the numbers of judges that were learned have to be read with: their own accuracy, and the truth's word."""
    return [" ".join(sentences) for judge in run.judges if (sentences := _caveat(run, judge))]


def _caveat(run: Run, judge: str) -> list[str]:
    kind = run.metrics.get("judges", {}).get(judge, {}).get("kind", judge)
    if kind in TRUTH or kind in _AS_THEY_CAME:
        return []
    name = judge_name(judge)
    if kind == "rule":
        return [f"The {name} is a rule on the texts: it says who is longer or nearer to a text, not who is better."]
    accuracy = run.metrics.get("judge_reward_model", {}).get("accuracy") if kind == "reward_model" else None
    labels = run.metrics.get("judges", {}).get(judge, {}).get("labels")
    if accuracy is not None:
        row = estimate_columns("accuracy", accuracy)
        known = f"is right on {in_words(row, 'accuracy')} of {count(accuracy['n'])} held-out pairs"
    elif labels:
        right, wrong = (estimate_columns("share", labels[name]) for name in ("sensitivity", "specificity"))
        known = f"is right on {in_words(right, 'share')} of labelled wins and {in_words(wrong, 'share')} of losses"
    else:
        known = "was not measured against labels here (python -m bench.judge_audit does that)"
    sentences = [f"Read the {name} with care: it {known}."]
    for entry in run.metrics.get("judge_agreement", []):
        others = [other for other in entry["judges"] if other != judge]
        if judge in entry["judges"] and others[0] in TRUTH and entry["agreement"]["value"] is not None:
            row = estimate_columns("agreement", entry["agreement"])
            sentences.append(f"It says what the {judge_name(others[0])} says of {in_words(row, 'agreement')} of pairs.")
    return [*sentences, *_where_they_part(run, judge)]


def _where_they_part(run: Run, judge: str) -> list[str]:
    """The arm whose win rate moves most with the judge, where the two intervals exclude each other."""
    apart: list[tuple[float, str]] = []
    for truth in (name for name in run.judges if name in TRUTH):
        for arm in run.arms:
            rates = run.metrics["arms"][arm].get("win_rate", {})
            ours, theirs = (estimate_columns("rate", rates.get(name)) for name in (judge, truth))
            if not all(is_number(row.get("rate_low")) for row in (ours, theirs)):
                continue
            if ours["rate_low"] > theirs["rate_high"] or ours["rate_high"] < theirs["rate_low"]:
                said = f"On {arm_name(arm)} it says {in_words(ours, 'rate')}, the {judge_name(truth)}"
                apart.append((abs(ours["rate"] - theirs["rate"]), f"{said} {in_words(theirs, 'rate')}."))
    return [max(apart)[1]] if apart else []


def judge_table(run: Run) -> pd.DataFrame:
    """One row per judge: its habits over all verdicts of the run, and what it used up where it is asked.

    `position_bias` (share for the summary shown first) and `length_bias` (for the longer one) are estimates over
    prompts; `flip_rate` is the share of prompts on which its two orders disagree, NaN where one was shown;
    `decided`, `ties`, `unparsed` count verdicts; `requests`, `retries`, `cached`, `prompt_tokens`,
    `completion_tokens` are there for judges that are asked, and of their questions `not_read`, `cut_off`, `refused`,
    `filtered`, `unfinished`, `empty`.
    """
    rows = []
    for judge, habits in run.metrics.get("judges", {}).items():
        row: dict[str, Any] = {"judge": judge}
        for bias in ("position_bias", "length_bias"):
            row |= estimate_columns(bias, habits.get(bias))
        row |= estimate_columns("flip_rate", with_interval(habits, "flip_rate"))
        row |= {name: habits[name] for name in ("decided", "ties", "unparsed") if name in habits}
        usage = habits.get("usage", {})
        rows.append(row | {"not_read" if name == "unparsed" else name: n for name, n in usage.items()})
    return frame(rows, "judge")
