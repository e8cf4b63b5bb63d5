"""Both arms tuned with the same effort: every trial, what was chosen on validation posts, what that is on test posts.

The choice is made in each seed by itself; the seeds say how much the whole procedure scatters, choosing included.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.arms import cost_stages
from bench.evaluate.seeds import mean_over_seeds
from bench.evaluate.statistics import estimate, paired_difference
from bench.report.by_prompt import points
from bench.report.columns import ARM, Column, estimate_column, points_column, share_column, table_of
from bench.report.load import ASKED, Run, estimate_columns, frame, records
from bench.report.page import Block, Figures, Text
from bench.report.plot import NEUTRAL, Plot, drawn, error_bars, new_axes, point_style, slug, styled
from bench.report.words import (
    Cell,
    arm_name,
    count,
    difference_in_words,
    in_words,
    is_number,
    judge_name,
    n_in_words,
    number,
    seeds_in_words,
)
from bench.tuning import VALIDATION

Duels = Mapping[str, dict[str, Any]]
"""The column of `trial_table` by which the trials are chosen -> `tuned_duel`."""
_VIEWS = {"chosen": "Equal trials", "chosen_in_equal_hours": "Equal hours"}


def trials(runs: Sequence[Run]) -> list[Run]:
    """The runs that are trials and were evaluated on validation posts, by seed and trial."""
    found = [run for run in runs if run.setting("config.tuning.trial") is not None and validation(run) is not None]
    return sorted(found, key=lambda run: (run.setting("seed"), run.setting("config.tuning.trial")))


def trial_table(runs: Sequence[Run], judge: str) -> pd.DataFrame:
    """One row per seed, trial and arm: `settings` (in words), `validation` and `test` (win rates against the reference
    summary), `kl_ref`, `hours` (of this trial's own stages; shared ones count for the first trial), and whether it is
    `chosen`, and `chosen_in_equal_hours`.

    Equal hours: trials in their order, as many of each arm as fit into the hours of all trials of the cheaper arm.
    """
    rows = []
    seen: set[tuple[Any, str]] = set()
    for run in trials(runs):
        for arm in ASKED:
            if arm not in run.metrics["arms"]:
                continue
            on_validation = validation(run)
            assert on_validation is not None
            row: dict[str, Any] = {
                "seed": run.setting("seed"),
                "trial": run.setting("config.tuning.trial"),
                "arm": arm,
                "settings": _settings(run, arm),
                "hours": _hours(run, arm, seen),
            }
            row |= estimate_columns("validation", on_validation["arms"][arm]["win_rate"].get(judge))
            row |= estimate_columns("test", run.metrics["arms"][arm]["win_rate"].get(judge))
            row |= estimate_columns("kl_ref", run.metrics["arms"][arm]["kl_ref"])
            rows.append(row)
    for of_arm in _groups(rows):
        best = max(of_arm, key=lambda row: row["validation"])
        of_seed = [group for group in _groups(rows) if group[0]["seed"] == best["seed"]]
        within = _within(of_arm, min(sum(row["hours"] for row in group) for group in of_seed))
        best_within = max(within, key=lambda row: row["validation"], default=None)
        for row in of_arm:
            row |= {"chosen": row is best, "chosen_in_equal_hours": row is best_within}
    return frame(rows, "seed", "trial", "arm")


def tuned_duel(runs: Sequence[Run], judge: str, column: str = "chosen") -> dict[str, Any] | None:
    """Over seeds: DPO's test win rate less PPO's, each at the trial that was chosen; None where an arm has none.

    Returns:
        "dpo" and "ppo", `mean_over_seeds` of the chosen trials' test win rates, "difference", that of the paired
        differences (-1 to 1), and "seeds", a row each.
    """
    table = records(trial_table(runs, judge))
    by_trial = {(run.setting("seed"), run.setting("config.tuning.trial")): run for run in trials(runs)}
    picked: dict[Any, dict[str, Run]] = {row["seed"]: {} for row in table}
    for row in table:
        if row[column]:
            picked[row["seed"]][row["arm"]] = by_trial[row["seed"], row["trial"]]
    return duel(picked, judge)


def duel(picked: Mapping[Any, Mapping[str, Run]], judge: str) -> dict[str, Any] | None:
    """`tuned_duel` of the runs that were picked for each arm, by seed; of one seed the intervals are over its posts."""
    rows = []
    for seed, runs in picked.items():
        if set(runs) != set(ASKED):
            return None
        of = {arm: points(run, arm, judge) for arm, run in runs.items()}
        shared = [p for p in of["dpo"] if p in of["ppo"]]
        if not shared:
            return None
        paired = paired_difference([of["dpo"][p] for p in shared], [of["ppo"][p] for p in shared], 0, bounds=(-1, 1))
        rates = {arm: run.metrics["arms"][arm]["win_rate"][judge] for arm, run in runs.items()}
        rows.append({"seed": seed, "difference": estimate(paired), **rates})
    if not rows:
        return None
    bounds = {**dict.fromkeys(ASKED, (0, 1)), "difference": (-1, 1)}
    found = {name: mean_over_seeds([row[name] for row in rows], within) for name, within in bounds.items()}
    if len(rows) == 1:
        found = {name: of | {"ci95": rows[0][name]["ci95"]} for name, of in found.items()}
    return {**found, "seeds": rows}


def tuned_duels(runs: Sequence[Run], judge: str) -> Duels:
    """Both views, as far as the runs have them."""
    return {column: duel for column in _VIEWS if (duel := tuned_duel(runs, judge, column)) is not None}


def section(runs: Sequence[Run], judge: str, duels: Duels) -> list[Block]:
    """Nothing for runs that are no trials.

    Args:
        duels: of `tuned_duels`.
    """
    table = records(trial_table(runs, judge))
    if not table:
        return []
    n = len({row["trial"] for row in table})
    columns = [
        Column("seed", lambda row: Cell(str(row["seed"]))),
        Column("trial", lambda row: Cell(str(row["trial"]))),
        ARM,
        Column("settings", lambda row: Cell(row["settings"])),
        share_column("validation", "validation posts"),
        share_column("test", "test posts"),
        estimate_column("kl_ref", "KL to SFT (nats)", 2),
        Column("hours", lambda row: Cell(number(row["hours"], 3))),
        Column("chosen", lambda row: Cell(_chosen(row))),
    ]
    blocks: list[Block] = [
        Text(
            f"{n} trials of each arm, drawn from its space; trial 0 is the presets. The best by {judge_name(judge)} on"
            " validation posts is chosen in each seed, and its number on test posts is the result: a validation number"
            " is the best of several and flatters."
        )
    ]
    for column, duel in duels.items():
        blocks.append(Text(f"{_VIEWS[column]}: {duel_in_words(duel, judge)}"))
        blocks.append(_duel_table(duel, judge, _VIEWS[column]))
    note = (
        "Hours: of the stages that the trial needed and no trial before it had made (processor hours on a CPU, else"
        " device-hours): the reward model counts in the first trial."
    )
    plots = drawn([trials_figure(runs, judge)])
    return [*blocks, *([Figures(plots)] if plots else []), table_of("Every trial", columns, table, note)]


@styled
def trials_figure(runs: Sequence[Run], judge: str) -> Plot | None:
    """Every trial's win rate on test over that on validation posts, the chosen ones filled; None without trials."""
    rows = [
        row
        for row in records(trial_table(runs, judge))
        if is_number(row.get("validation")) and is_number(row.get("test"))
    ]
    if not rows:
        return None
    figure, axes = new_axes((4.8, 4.2))
    labelled = set()
    for row in rows:
        style = point_style(row["arm"]) | ({} if row["chosen"] else {"markerfacecolor": "none", "alpha": 0.7})
        label = arm_name(row["arm"], short=True) if row["chosen"] and row["arm"] not in labelled else None
        labelled |= {row["arm"]} if label else set()
        axes.errorbar(
            [100 * row["validation"]],
            [100 * row["test"]],
            yerr=100 * error_bars([row], "test") if row["chosen"] else None,
            linestyle="none",
            label=label,
            **style,
        )
    ends = [100 * row[column] for row in rows for column in ("validation", "test")]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=NEUTRAL, linewidth=1, linestyle="--")
    title = f"Trials, {judge_name(judge)}"
    axes.set(title=title, xlabel="% won of validation posts", ylabel="% won of test posts")
    figure.legend(loc="outside lower center", ncols=2)
    told = [
        f"{arm_name(row['arm'])}, seed {row['seed']}, trial {row['trial']}: {in_words(row, 'validation')} and"
        f" {in_words(row, 'test')}"
        for row in rows
        if row["chosen"]
    ]
    seeds = seeds_in_words(len({row["seed"] for row in rows}))
    caption = (
        f"{count(len(rows))} trials of {seeds}, each on {n_in_words(row['test_n'] for row in rows)} of test; filled:"
        " chosen on validation posts, with its 95 % interval. Below the dashed line the validation posts flattered."
    )
    return Plot(f"trials_{slug(judge)}", title, f"{title}, chosen: {'; '.join(told)}.", figure, caption)


def duel_in_words(duel: dict[str, Any], judge: str) -> str:
    """`tuned, DPO's win rate on test posts less RLHF's is 3.1 points [-2.0, 8.2] over 3 seeds: not decided.`"""
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    return f"tuned, {judge_name(judge)}, {first}'s win rate on test posts less {second}'s is {ahead_by(duel)}."


def ahead_by(duel: dict[str, Any]) -> str:
    """`3.1 points [-2.0, 8.2] over 3 seeds: not decided at this n`, of `duel`."""
    found = duel["difference"]
    seeds = f" over {'the posts of ' * (found['n'] == 1)}{seeds_in_words(found['n'])}"
    if found["ci95"] is None:
        return f"{number(100 * found['mean'], 1)} points ({found['reason']}){seeds}: not decided at this n"
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    return difference_in_words(found["mean"], found["ci95"], first, second, seeds)


def _duel_table(duel: dict[str, Any], judge: str, view: str) -> Block:
    rows = [
        {"seed": str(row["seed"])}
        | {k: v for name in (*ASKED, "difference") for k, v in estimate_columns(name, row[name]).items()}
        for row in duel["seeds"]
    ]
    mean: dict[str, Any] = {"seed": "mean"}
    for name in (*ASKED, "difference"):
        mean |= estimate_columns(name, {"value": duel[name]["mean"], "ci95": duel[name]["ci95"]})
    columns = [
        Column("seed", lambda row: Cell(row["seed"])),
        *(share_column(arm, arm_name(arm, short=True)) for arm in ASKED),
        points_column("difference", "difference (points)"),
    ]
    return table_of(f"{view}: the chosen trials on test posts, {judge_name(judge)}", columns, [*rows, mean])


def _chosen(row: dict[str, Any]) -> str:
    words = [word for word, column in (("trials", "chosen"), ("hours", "chosen_in_equal_hours")) if row[column]]
    return f"for equal {' and '.join(words)}" if words else ""


def validation(run: Run) -> dict[str, Any] | None:
    """What the run has in its grid of validation posts, at its headline's temperature."""
    temperature = run.metrics.get("cell", {}).get("temperature")
    cells = run.metrics.get("grid") or []
    return next((c for c in cells if c["set"] == VALIDATION and c["temperature"] == temperature), None)


def _settings(run: Run, arm: str) -> str:
    names = sorted(run.setting(f"config.tuning.space.{arm}", {}))
    return ", ".join(f"{name} {run.setting(f'config.{arm}.{name}'):g}" for name in names)


def _hours(run: Run, arm: str, seen: set[tuple[Any, str]]) -> float:
    hours = 0.0
    for stage in cost_stages(arm):
        key = (arm, run.setting(f"stages.{stage}.key"))
        cost = run.metrics["cost"]["stages"].get(stage)
        if cost is None or key in seen:
            continue
        seen.add(key)
        hours += cost["cpu_s"] / 3600 if run.setting("device.type") == "cpu" else cost["device_hours"]
    return hours


def _groups(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[tuple[Any, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["seed"], row["arm"]), []).append(row)
    return list(groups.values())


def _within(rows: Sequence[dict[str, Any]], hours: float) -> list[dict[str, Any]]:
    """The first rows that fit into the hours; rounding may not cost an arm its last trial."""
    kept, spent = [], 0.0
    for row in rows:
        spent += row["hours"]
        if spent > hours * (1 + 1e-9):
            break
        kept.append(row)
    return kept
