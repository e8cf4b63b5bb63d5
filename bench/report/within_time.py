"""Both arms' budgets were swept: the best that each reaches within the same time beyond the SFT model.

Unlike at equal time (`frontier`), where an arm stands on the line through its settings, it may stop earlier here: what
trains on past its best loses nothing by it.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.report.columns import Column, count_column, points_column, share_column, table_of
from bench.report.frontier import equal_time
from bench.report.load import ASKED, Run, estimate_columns
from bench.report.page import Block, Text
from bench.report.sweep import swept
from bench.report.tuned import duel, validation
from bench.report.words import Cell, TimeUnit, arm_name, difference_in_words, judge_name, seeds_in_words


def within_time(runs: Sequence[Run], judge: str) -> list[dict[str, Any]]:
    """A row per time at which another pair of settings is the best: `hours`, `dpo_setting`, `ppo_setting` (chosen among
    those that took no longer in the mean over seeds, by the mean win rate on validation posts, or on test posts where a
    run has none), and `tuned.duel` of the two on test posts. Empty where the budgets of the arms were not both swept.
    """
    equal = equal_time(runs)
    if equal is None:
        return []
    settings = {arm: swept(runs, arm) for arm in ASKED}
    seeds = [{run.setting("seed") for run in of} for by_name in settings.values() for of in by_name.values()]
    everywhere = set.intersection(*seeds) if seeds else set()
    if not everywhere:
        return []

    def hours(arm: str, of: Sequence[Run]) -> float:
        return fmean(next(iter(equal.spent(run, arm).values())) for run in of)

    times = {arm: {name: hours(arm, of) for name, of in by_name.items()} for arm, by_name in settings.items()}
    on_validation = all(
        validation(run) is not None for by_name in settings.values() for of in by_name.values() for run in of
    )
    rows: list[dict[str, Any]] = []
    for limit in sorted(taken for of_arm in times.values() for taken in of_arm.values()):
        best = {}
        for arm, by_name in settings.items():
            within = [name for name in by_name if times[arm][name] <= limit * (1 + 1e-9)]
            rates = {name: fmean(_rate(run, arm, judge, on_validation) for run in by_name[name]) for name in within}
            best |= {arm: max(rates, key=lambda name: rates[name])} if rates else {}
        names = {f"{arm}_setting": name for arm, name in best.items()}
        if len(best) < len(ASKED) or (rows and names.items() <= rows[-1].items()):
            continue
        picked: dict[Any, dict[str, Run]] = {seed: {} for seed in sorted(everywhere)}
        for arm, name in best.items():
            for run in settings[arm][name]:
                if run.setting("seed") in picked:
                    picked[run.setting("seed")][arm] = run
        found = duel(picked, judge)
        if found is not None:
            rows.append({"hours": limit, **names, **found, "chosen_on": "validation" if on_validation else "test"})
    return rows


def section(rows: Sequence[Mapping[str, Any]], judge: str, name: str, unit: TimeUnit) -> list[Block]:
    """Of `within_time`; `name` and `unit` of the time, as `frontier.equal_time` has them."""
    if not rows:
        return []
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    shown = []
    for row in rows:
        shown.append({key: row[key] for key in ("hours", *(f"{arm}_setting" for arm in ASKED))})
        shown[-1]["seeds"] = len(row["seeds"])
        for column in (*ASKED, "difference"):
            shown[-1] |= estimate_columns(column, {"value": row[column]["mean"], "ci95": row[column]["ci95"]})
    columns = [
        Column(f"within {unit.sign}", lambda row: Cell(unit.write(row["hours"]))),
        *(
            column
            for arm in ASKED
            for column in (
                Column(f"{arm_name(arm, short=True)} at", lambda row, arm=arm: Cell(row[f"{arm}_setting"])),
                share_column(arm, arm_name(arm, short=True)),
            )
        ),
        points_column("difference", f"{first} minus {second} (points)"),
        count_column("seeds", "seeds"),
    ]
    note = (
        f"{name} beyond the SFT model, mean over seeds, RLHF's with its reward model. Chosen on"
        f" {rows[0]['chosen_on']} posts among the budgets that took no longer; win rates are on test posts. A row where"
        " another setting becomes the best."
    )
    caption = f"The best within the same {name}, {judge_name(judge)}"
    return [*map(Text, in_words(rows, judge, name, unit)), table_of(caption, columns, shown, note)]


def in_words(rows: Sequence[Mapping[str, Any]], judge: str, name: str, unit: TimeUnit) -> list[str]:
    """A sentence for the longest time."""
    if not rows:
        return []
    row, (first, second) = rows[-1], (arm_name(arm, short=True) for arm in ASKED)
    found = row["difference"]
    over = f" over {seeds_in_words(len(row['seeds']))}"
    told = (
        difference_in_words(found["mean"], found["ci95"], first, second, over)
        if found["ci95"] is not None
        else f"{100 * found['mean']:.1f} points{over}: not decided at this n"
    )
    return [
        f"Within {unit.write(row['hours'])} {unit.sign} of {name} each, {first} at {row['dpo_setting']} and {second} at"
        f" {row['ppo_setting']}, chosen on {row['chosen_on']} posts, {judge_name(judge)}: {first}'s win rate less"
        f" {second}'s is {told}."
    ]


def _rate(run: Run, arm: str, judge: str, on_validation: bool) -> float:
    where = validation(run) if on_validation else run.metrics
    assert where is not None
    return where["arms"][arm]["win_rate"][judge]["value"]
