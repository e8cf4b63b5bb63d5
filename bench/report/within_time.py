"""Both arms' budgets were swept: the best that each reaches within the same time beyond the SFT model.

Unlike at equal time (`frontier`), where an arm stands on the line through its settings, it may stop earlier here: what
trains on past its best loses nothing by it.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.report.columns import Column, count_column, points_column, share_column, table_of
from bench.report.frontier import Equal
from bench.report.load import ASKED, Run, estimate_columns
from bench.report.page import Block, Text
from bench.report.sweep import TEST, rate, swept
from bench.report.tuned import ahead_by, duel
from bench.report.words import Cell, arm_name, judge_name
from bench.tuning import VALIDATION


def within_time(runs: Sequence[Run], judge: str, equal: Equal) -> list[dict[str, Any]]:
    """A row per time at which another pair of settings is the best, over the seeds that all settings have.

    Args:
        equal: of `frontier.equal_time`.

    Returns:
        Rows of `hours`, `dpo_setting`, `ppo_setting` (of those that took no longer in the mean over seeds, the one of
        the highest mean win rate on `chosen_on` posts: validation, where every run has them, else test), and
        `tuned.duel` of the two on test posts.
    """
    settings = {arm: _by_seed(runs, arm, judge, equal) for arm in ASKED}
    every = [(arm, of) for arm, by_name in settings.items() for of in by_name.values()]
    seeds = sorted(set.intersection(*(set(of) for _, of in every))) if every else []
    if not seeds:
        return []
    on_validation = all(rate(of[seed], arm, judge, VALIDATION) for arm, of in every for seed in seeds)
    chosen_on = VALIDATION if on_validation else TEST

    def mean_rate(arm: str, of: Mapping[Any, Run]) -> float:
        return fmean(found["value"] for seed in seeds if (found := rate(of[seed], arm, judge, chosen_on)))

    def hours(arm: str, of: Mapping[Any, Run]) -> float:
        return fmean(fmean(equal.spent(of[seed], arm).values()) for seed in seeds)

    rows: list[dict[str, Any]] = []
    for limit in sorted(hours(arm, of) for arm, of in every):
        best: dict[str, str] = {}
        for arm, by_name in settings.items():
            within = {name: of for name, of in by_name.items() if hours(arm, of) <= limit * (1 + 1e-9)}
            if within:
                best[arm] = max(within, key=lambda name: mean_rate(arm, within[name]))
        names = {f"{arm}_setting": name for arm, name in best.items()}
        if len(best) < len(ASKED) or (rows and names.items() <= rows[-1].items()):
            continue
        found = duel({seed: {arm: settings[arm][name][seed] for arm, name in best.items()} for seed in seeds}, judge)
        if found is not None:
            rows.append({"hours": limit, **names, **found, "chosen_on": chosen_on})
    return rows


def _by_seed(runs: Sequence[Run], arm: str, judge: str, equal: Equal) -> dict[str, dict[Any, Run]]:
    """Setting -> seed -> the run with it, of those that are judged and whose time is known."""
    return {
        name: {run.setting("seed"): run for run in of if rate(run, arm, judge, TEST) and equal.spent(run, arm)}
        for name, of in swept(runs, arm).items()
    }


def section(rows: Sequence[dict[str, Any]], judge: str, equal: Equal) -> list[Block]:
    """Of `within_time`."""
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
        Column(f"within {equal.unit.sign}", lambda row: Cell(equal.unit.write(row["hours"]))),
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
        f"{equal.name} beyond the SFT model, mean over seeds, RLHF's with its reward model. Chosen on"
        f" {rows[0]['chosen_on']} posts among the settings that took no longer; win rates are on test posts. A row"
        " where another setting becomes the best."
    )
    caption = f"The best within the same {equal.name}, {judge_name(judge)}"
    return [Text(in_words(rows[-1], judge, equal)), table_of(caption, columns, shown, note)]


def in_words(row: dict[str, Any], judge: str, equal: Equal) -> str:
    """A row of `within_time` in a sentence."""
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    return (
        f"Within {equal.unit.write(row['hours'])} {equal.unit.sign} of {equal.name} each, {first} at"
        f" {row['dpo_setting']} and {second} at {row['ppo_setting']}, chosen on {row['chosen_on']} posts,"
        f" {judge_name(judge)}: {first}'s win rate less {second}'s is {ahead_by(row)}."
    )
