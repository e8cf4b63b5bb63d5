"""Several finished runs side by side: win rate and KL against beta, and the reward-KL points of both arms."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import RunFolderError, in_one_line
from bench.report import claims_over_runs, frontier, gains, over_seeds, sweep, tuned, within_time
from bench.report.claims_over_runs import best_judge
from bench.report.columns import (
    ARM,
    JUDGE,
    MEASURES,
    PAIR,
    Column,
    cost_column,
    share_column,
    table_of,
    win_rate_columns,
)
from bench.report.formats import DEFAULT, write_report
from bench.report.load import NOT_TRAINED, WHERE_AND_WHEN, Run, leaves, load_run, records
from bench.report.over_beta import kl_and_beta, kl_vs_beta, reward_kl_points, win_rate_vs_beta
from bench.report.over_cost import win_rate_vs_cost
from bench.report.over_seeds import groups_of_seeds, seeds_section
from bench.report.page import Block, Figures, Note, Page, Section, Table, Text, require_folder
from bench.report.plot import drawn
from bench.report.policies import policy_points
from bench.report.read import SHAPE_ERRORS
from bench.report.sections.head_to_head import head_to_head_table
from bench.report.words import NONE, Cell, Row, arm_name, count, in_words, is_number, judge_name, number, strength

# What must be equal before two runs may stand side by side: always ...
_SAME_SETTINGS = ("config.sampling", "config.budget", "config.judge", "config.data.reward")
# (where policies were chosen among moments of their training, by whom and among how many too) ...
_CHOICE = "config.samples_in_training"
# (but for how long an arm trains, which may be what is asked) ...
_MAY_DIFFER = {f"config.budget.{name}" for name in frontier.BUDGETS.values()}
# ... for runs of one seed, the very same data and the very same SFT model ...
_SAME_SEED = ("data.hash", "stages.sft.key")
# (with one known reward, where there is one: what the labels are made of has the content of its files in its key) ...
_LABELS = "stages.label.key"
# ... and across seeds, where a seed changes both, the settings that made them.
_ACROSS_SEEDS = ("config.data", "config.model", "config.sft")
# (of a known reward that is somebody's own, its code).
_OWN_REWARD = "code.known_reward"


def render_comparison(run_dirs: Sequence[Path | str], out_dir: Path | str, formats: Sequence[str] = DEFAULT) -> Path:
    """Write figures/, report.md and report.html that compare finished runs; returns report.html's path.

    Args:
        formats: of `formats.FORMATS`.

    Raises:
        RunFolderError: a folder holds no finished run, or two runs may not be compared (`check_comparable`).
        ResourceError: `out_dir` cannot be written.
    """
    folders = {Path(folder).resolve(): folder for folder in run_dirs}  # a folder given twice is one run
    runs = [load_run(folder) for folder in folders.values()]
    check_comparable(runs)
    require_folder(Path(out_dir))
    try:
        page = comparison_page(runs)
    except SHAPE_ERRORS as error:
        raise RunFolderError(
            f"{runs[0].path} or another of these runs: its numbers are not as results/README.md has them"
            f" ({in_one_line(error)}); repeat the run"
        ) from error
    return write_report(page, runs, Path(out_dir), formats)


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs that differ in more than what a comparison of methods may vary.

    Sampling, judge and budget must be equal, but for how long PPO and DPO train. Runs of one seed must share the data
    (hash), the SFT model and the known reward's labels (stage keys); runs of different seeds must have been given the
    same settings for all.

    Raises:
        RunFolderError: names the field, both values and both runs.
    """
    first_of_seed: dict[Any, Run] = {}
    for run in runs:
        chooser = f"{_CHOICE}.keep_best"
        _require_equal(runs[0], run, (*_SAME_SETTINGS, chooser if run.setting(chooser) is None else _CHOICE))
        first = first_of_seed.setdefault(run.setting("seed"), run)
        for field in _SAME_SEED:
            if run.setting(field) is None:
                raise RunFolderError(f"{run.path}: run.json has no {field}, so it cannot be compared; repeat the run")
        _require_equal(first, run, (*_SAME_SEED, _LABELS))
        if first is run:
            is_own = not str(run.setting("config.data.reward.scorer", "bench.")).startswith("bench.")
            _require_equal(runs[0], run, (*_ACROSS_SEEDS, *([_OWN_REWARD] if is_own else [])))


def varied_settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Dotted config keys that are not equal in all runs -> the value in each run (None: absent).

    But for where the runs went.
    """
    settings = [dict(leaves(run.setting("config", {}))) for run in runs]
    keys = sorted({key for of_run in settings for key in of_run}.difference(WHERE_AND_WHEN))
    values = {key: [of_run.get(key) for of_run in settings] for key in keys}
    return {key: of_runs for key, of_runs in values.items() if any(value != of_runs[0] for value in of_runs)}


def comparison_page(runs: Sequence[Run]) -> Page:
    """The comparison as data."""
    points = policy_points(runs)
    seeds = list(dict.fromkeys(str(run.setting("seed")) for run in runs))
    judge, groups = best_judge(runs), groups_of_seeds(runs)
    duels = tuned.tuned_duels(runs, judge) if judge else {}
    of_trials = tuned.section(runs, judge, duels) if judge else []
    equal_kl = frontier.matched(runs, judge) if judge else None
    at_equal_kl = frontier.section(equal_kl, judge) if judge else []
    time = frontier.equal_time(runs)
    at_equal_time, within = _in_time(runs, judge, time) if judge and time and not duels else ([], [])
    by_setting = sweep.every_verdict(runs, runs[0].judges)
    sections = [
        Section("Which setting", sweep.section(by_setting)),
        Section("Over seeds", seeds_section(groups)),
        Section("Tuned", of_trials),
        Section("At equal KL", at_equal_kl),
        Section("At equal time", [*at_equal_time, *within]),
        Section("Claims", claims_over_runs.section(runs, judge, equal_kl, duels) if judge else []),
        _against_beta(points, judge, seeds),
        Section("Win rate against cost", _against_cost(points, judge)),
        Section("Over-optimisation", gains.section(runs, records(points))),
        Section("Policies", [_policy_table(records(points), runs[0].judges)]),
        Section("Runs", _run_tables(runs)),
        Section("Head to head in each run", _duel_tables(runs)),
    ]
    answer = [
        block.text for block in (*of_trials[1:], *at_equal_kl, *at_equal_time, *within) if isinstance(block, Text)
    ]
    if judge and len(groups) == 1:
        answer += over_seeds.answer(groups[0], judge)
    which = sweep.in_a_sentence(by_setting, judge) if judge else []
    answer += which
    if not which and (not answer or [len(group) for group in groups] != [len(runs)]):
        answer += _answer(records(points), judge)
    how_many = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    experiments = sorted({str(run.setting("experiment", run.path.parent.name)) for run in runs})
    return Page(
        title="RLHF against DPO over several runs",
        subtitle=f"{how_many} of {', '.join(experiments)}, seed {', '.join(seeds)}",
        answer=answer,
        sections=[section for section in sections if section.blocks],
    )


def _in_time(runs: Sequence[Run], judge: str, time: frontier.Equal) -> tuple[list[Block], list[Block]]:
    """At equal time, where there are settings of unlike length; and within the same time: of settings of one length,
    whose times differ by chance, within the longest alone."""
    within = within_time.within_time(runs, judge, time)
    if not frontier.budgets_differ(runs):
        return [], within_time.section(within[-1:], judge, time)
    equal = frontier.section(frontier.matched(runs, judge, time), judge, time)
    return equal, within_time.section(within, judge, time)


def _against_beta(points: pd.DataFrame, judge: str | None, seeds: Sequence[str]) -> Section:
    """Nothing over beta where no arm has two of them."""
    over_beta = drawn([win_rate_vs_beta(points, judge) if judge else None, kl_vs_beta(points)])
    reward = drawn([reward_kl_points(points)])
    blocks: list[Block] = [Figures([*over_beta, *reward])] if over_beta or reward else []
    if over_beta:
        equal = "Equal beta is not equal KL: compare the arms at the KL they reach (reward against KL)."
        blocks.insert(0, Text(" ".join([equal, *kl_and_beta(points)])))
    if over_beta and len(seeds) > 1:
        blocks.insert(
            0,
            Note(
                f"These runs have {len(seeds)} seeds ({', '.join(seeds)}): each has its own SFT model, and"
                " a line joins the runs of one seed only."
            ),
        )
    return Section("Against beta" if over_beta else "Reward against KL", blocks)


def _against_cost(points: pd.DataFrame, judge: str | None) -> list[Block]:
    plots = drawn([win_rate_vs_cost(points, judge)]) if judge else []
    return [Figures(plots)] if plots else []


def _answer(points: Sequence[Row], judge: str | None) -> list[str]:
    """Per trained arm the range over its policies, each end with its interval, beta, KL and seed."""
    column = f"win_rate_{judge}"
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in points if row["arm"] not in NOT_TRAINED):
        of_arm = [row for row in points if row["arm"] == arm and is_number(row.get(column))]
        if not of_arm:
            continue
        of_arm.sort(key=lambda row: row[column])
        ends = of_arm if len(of_arm) < 2 else (of_arm[0], of_arm[-1])
        name = f"{arm_name(arm, short=True)}, {len(of_arm)} {'policies' if len(of_arm) > 1 else 'policy'}"
        lines.append(f"{name}: {' to '.join(_policy_in_words(row, column) for row in ends)}.")
    if not judge or not lines:
        return ["These runs hold no win rates; their measurements are below."]
    return [f"Win rate against the reference summary, {judge_name(judge)}, lowest to highest:", *lines]


def _policy_in_words(row: Row, column: str) -> str:
    details = [strength(row)] if strength(row) else []
    details += [f"KL {number(row['kl_ref'], 2)}"] if is_number(row.get("kl_ref")) else []
    details.append(f"seed {row['seed']}")
    return f"{in_words(row, column)} ({', '.join(details)})"


def _policy_table(points: Sequence[Row], judges: Sequence[str]) -> Table:
    columns = [
        ARM,
        Column("beta or KL target", lambda row: Cell(strength(row) or NONE)),
        Column("seed", lambda row: Cell(str(row["seed"]))),
        *win_rate_columns(judges),
        *MEASURES,
        cost_column("device_hours", "device-hours"),
        Column("run", lambda row: Cell(row["run"])),
    ]
    return table_of("Every distinct policy; one that several runs share stands here once", columns, points)


def _run_tables(runs: Sequence[Run]) -> list[Block]:
    varied = varied_settings(runs)
    blocks: list[Block] = []
    if varied:
        rows = [
            [Cell(run.path.name), *(Cell(str(of_runs[index])) for of_runs in varied.values())]
            for index, run in enumerate(runs)
        ]
        blocks.append(Table("Settings that differ between the runs", ["run", *varied], rows))
    rows = [
        [
            Cell(run.path.name),
            *(Cell(str(run.setting(field, NONE))) for field in ("seed", "config_hash", "git.commit")),
        ]
        for run in runs
    ]
    blocks.append(Table("What made each run", ["run", "seed", "config hash", "commit"], rows))
    return blocks


def _duel_tables(runs: Sequence[Run]) -> list[Block]:
    duels = [{"run": run.path.name, **row} for run in runs for row in records(head_to_head_table(run))]
    if duels:
        columns = [
            Column("run", lambda row: Cell(row["run"])),
            PAIR,
            JUDGE,
            share_column("win_rate", "win rate"),
            Column("n", lambda row: Cell(count(row.get("win_rate_n")))),
        ]
        return [replace(table_of("Head to head within each run", columns, duels), folded=True)]
    return []


def _require_equal(one: Run, other: Run, fields: Sequence[str]) -> None:
    for field in fields:
        ours, theirs = (
            {key: value for key, value in leaves(run.setting(field, {}), field) if not key.endswith(".seed")}
            for run in (one, other)
        )
        for key in sorted((ours.keys() | theirs.keys()) - _MAY_DIFFER):
            if ours.get(key) != theirs.get(key):
                raise RunFolderError(
                    f"these runs may not be compared: {key} is {ours.get(key)!r} in {one.path} but"
                    f" {theirs.get(key)!r} in {other.path}; compare runs that differ in the method only"
                )
