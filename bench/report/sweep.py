"""A sweep says which setting: each arm's settings beside the best one, by each judge, with the KL that they cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.arms import BY_NAME, upstream
from bench.evaluate.best_setting import BEST, LEVEL, WORSE, Result, beside_the_best
from bench.report.by_prompt import points, share_prompts
from bench.report.columns import Column, count_column, points_column, share_column, table_of
from bench.report.load import NOT_TRAINED, Run, distinct, estimate_columns, leaves
from bench.report.page import Block
from bench.report.tuned import validation
from bench.report.words import Cell, arm_name, in_words, judge_name, number, seeds_in_words, setting_in_words
from bench.tuning import VALIDATION

_TONES = {BEST: "good", WORSE: "bad", LEVEL: "open"}
TEST = "test"
_LONG = 80
_BUDGET_OF = {"rloo": "ppo"}
"""Settings -> those whose budget (`budget.ppo_episodes`) is theirs too."""
Told = Mapping[tuple[str, str], Sequence[dict[str, Any]]]
"""(arm, judge) -> the rows of `verdicts`."""


def swept(runs: Sequence[Run], arm: str) -> dict[str, list[Run]]:
    """Setting, in words -> the runs of the arm's distinct policies with it: what was varied of the stages that make the
    arm. Empty where nothing was."""
    groups = {stage.settings for stage in upstream(BY_NAME[arm].stage) if stage.settings} if arm in BY_NAME else set()
    of_arm = distinct([run for run in runs if arm in run.arms], arm)
    settings = [
        {
            key: value
            for group in sorted(groups)
            for key, value in leaves(run.setting(f"config.{group}", {}), group)
            if not key.endswith(".seed")
        }
        | {
            key: value
            for key, value in leaves(run.setting("config.budget", {}), "budget")
            if key.removeprefix("budget.").partition("_")[0] in {_BUDGET_OF.get(group, group) for group in groups}
        }
        for run in of_arm
    ]
    varied = [key for key in settings[0] if len({repr(of.get(key)) for of in settings}) > 1] if settings else []
    found: dict[str, list[Run]] = {}
    for run, of in sorted(zip(of_arm, settings, strict=True), key=lambda pair: [_order(pair[1][k]) for k in varied]):
        found.setdefault(setting_in_words({key: of[key] for key in varied}), []).append(run)
    return found if varied else {}


def verdicts(runs: Sequence[Run], arm: str, judge: str) -> list[dict[str, Any]]:
    """A row per setting of the arm: `setting`, `verdict`, `chosen_on` (validation, where every run has it, else test),
    `rate` and `behind` (there, how far behind the best; `evaluate.best_setting`), `test` (its win rate on test posts),
    `kl` in words, `seeds`: over the seeds that all settings have. Empty where fewer than two were judged in one."""
    settings = {name: of for name, of in swept(runs, arm).items() if all(rate(run, arm, judge, TEST) for run in of)}
    seeds = set.intersection(*({r.setting("seed") for r in of} for of in settings.values())) if settings else set()
    if len(settings) < 2 or not seeds:
        return []
    settings = {name: [run for run in of if run.setting("seed") in seeds] for name, of in settings.items()}
    every = [run for of in settings.values() for run in of]
    chosen_on = VALIDATION if all(rate(run, arm, judge, VALIDATION) for run in every) else TEST
    found = {place: _beside(settings, arm, judge, place, share_prompts(every)) for place in {chosen_on, TEST}}
    rows = []
    for name, of in found[chosen_on].items():
        row = {"setting": name, "verdict": of["verdict"], "chosen_on": chosen_on, "seeds": of["rate"]["seeds"]}
        row |= estimate_columns("rate", of["rate"]) | estimate_columns("behind", of["behind"])
        rows.append(row | estimate_columns("test", found[TEST][name]["rate"]) | {"kl": _kl(settings[name], arm)})
    return rows


def every_verdict(runs: Sequence[Run], judges: Sequence[str]) -> Told:
    """The `verdicts` of every trained arm that was swept, by every judge."""
    arms = dict.fromkeys(arm for run in runs for arm in run.arms if arm not in NOT_TRAINED)
    return {(arm, judge): rows for arm in arms for judge in judges if (rows := verdicts(runs, arm, judge))}


def section(told: Told) -> list[Block]:
    """A table per arm and judge."""
    blocks: list[Block] = []
    for (arm, judge), rows in told.items():
        on_validation = rows[0]["chosen_on"] == VALIDATION
        columns = [
            Column("setting", lambda row: Cell(row["setting"])),
            *([share_column("rate", "validation posts")] if on_validation else []),
            share_column("test", "test posts"),
            points_column("behind", "behind the best (points)"),
            Column("KL to SFT (nats)", lambda row: Cell(row["kl"])),
            count_column("seeds", "seeds"),
            Column("verdict", lambda row: Cell(row["verdict"], tone=_TONES[row["verdict"]])),
        ]
        caption = f"{arm_name(arm, short=True)}: which setting, win rate by the {judge_name(judge)}"
        blocks.append(table_of(caption, columns, rows, "" if blocks else _NOTES[on_validation]))
    return blocks


def in_a_sentence(told: Told, judge: str) -> list[str]:
    """Per arm which setting is best, what it costs in KL, and which ones are level with it or worse."""
    lines = []
    for (arm, by), rows in told.items():
        if by != judge:
            continue
        (best,) = (row for row in rows if row["verdict"] == BEST)
        named = {word: _listed([r["setting"] for r in rows if r["verdict"] == word]) for word in (LEVEL, WORSE)}
        name, seeds = arm_name(arm, short=True), seeds_in_words(best["seeds"])
        lines.append(
            f"{name} is best at {best['setting']}, {judge_name(judge)}: {in_words(best, 'test')} of test posts at KL"
            f" {best['kl']}, {seeds}, chosen on {best['chosen_on']} posts. Not told apart from it:"
            f" {named[LEVEL]}. Worse: {named[WORSE]}."
        )
    return lines


_LEVELS = (
    " Worse: behind the best one at the level 0.05 over the number of other settings (Student's t over seeds, the sign"
    " test over the posts of a single seed), paired by post and seed; so the setting that is truly best is called worse"
    " in at most 5 % of sweeps. Behind: with an ordinary 95 % interval; two seeds have none, and tell nothing apart."
)
_NOTES = {
    True: f"Chosen on validation posts; its number on test posts is not flattered by the choice.{_LEVELS}",
    False: "Chosen on the very posts that the numbers are of: the best one's flatters"
    f" ('+sets.validation={{split: validation}}' gives posts to choose on).{_LEVELS}",
}


def _beside(settings: Mapping[str, Sequence[Run]], arm: str, judge: str, place: str, shared: bool) -> dict[str, Any]:
    results = {}
    for name, runs in settings.items():
        results[name] = {}
        for run in runs:
            reached = rate(run, arm, judge, place)
            assert reached is not None
            cell = "" if place == TEST else f"grid/{VALIDATION}-t{run.metrics['cell']['temperature']:g}"
            results[name][run.setting("seed")] = Result(reached, points(run, arm, judge, cell) or None)
    return beside_the_best(results, shared)


def rate(run: Run, arm: str, judge: str, place: str) -> Mapping[str, Any] | None:
    """Its win rate with its interval, on test or validation posts."""
    of = run.metrics if place == TEST else validation(run) or {}
    found = of.get("arms", {}).get(arm, {}).get("win_rate", {}).get(judge)
    return found if found is not None and found["ci95"] is not None else None


def _kl(runs: Sequence[Run], arm: str) -> str:
    """Its mean over seeds and its range, or one seed's interval."""
    known = [kl for run in runs if (kl := run.metrics["arms"][arm].get("kl_ref")) and kl.get("value") is not None]
    if not known:
        return "unknown"
    values = [kl["value"] for kl in known]
    ends = (min(values), max(values)) if len(values) > 1 else known[0].get("ci95") or ()
    written = [number(end, 2) for end in ends]
    mean = number(sum(values) / len(values), 2)
    return f"{mean} ({' to '.join(written)})" if len(values) > 1 else f"{mean} [{', '.join(written)}]"


def _listed(names: Sequence[str]) -> str:
    """Their names, or how many there are where these would fill the page."""
    return "; ".join(names) or "none" if len("; ".join(names)) < _LONG else f"{len(names)} settings"


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers by size, before others."""
    is_size = isinstance(value, int | float)
    return not is_size, value if is_size else repr(value)
