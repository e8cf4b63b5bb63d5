"""What is said of DPO, decided from several runs: seeds, settings, trials."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.evaluate.claims import JUDGES_BEST_FIRST
from bench.evaluate.claims_over_runs import cost, own_reward_model, row
from bench.evaluate.robustness import LEAST_RUNS, simpler
from bench.evaluate.seeds import duels_across_seeds
from bench.report import failures
from bench.report.by_prompt import Verdicts, share_prompts
from bench.report.columns import Column, count_column, table_of, verdict
from bench.report.distrust import unlike_posts
from bench.report.frontier import BUDGETS
from bench.report.load import ASKED, Run, distinct, estimate_columns
from bench.report.over_seeds import groups_of_seeds
from bench.report.page import Block
from bench.report.tuned import Duels, trials
from bench.report.words import NONE, Cell, Row, estimate, points, share

_WRITE = {"ratio": estimate, "share": share, "points": points}
_TUNED = {"tuned, equal trials": "chosen", "tuned, equal hours": "chosen_in_equal_hours"}


def best_judge(runs: Sequence[Run]) -> str | None:
    """The judge that the claims are put to: of those that judged every run, the kind that is trusted most."""
    names = [judge for judge in runs[0].judges if all(judge in run.judges for run in runs)]
    kinds = {name: runs[0].metrics.get("judges", {}).get(name, {}).get("kind") or name for name in names}
    known = [*JUDGES_BEST_FIRST]
    return min(names, key=lambda name: known.index(kinds[name]) if kinds[name] in known else len(known), default=None)


def claims_over_runs(
    runs: Sequence[Run], judge: str, equal_kl: Mapping[str, Any] | None, duels: Duels
) -> list[dict[str, Any]]:
    """The rows of the five claims, the fourth in four views (`bench.evaluate.claims_over_runs`).

    Args:
        equal_kl: of `frontier.matched`; None where there is none.
        duels: of `tuned.tuned_duels`.
    """
    metrics = [run.metrics for run in runs]
    margin = runs[0].setting("config.evaluation.noninferiority_margin", 0.0)
    tolerance = runs[0].setting("config.evaluation.cost_tolerance", 0.1)
    return [
        *(_cost(runs, claim, tolerance) for claim in (1, 2)),
        _simpler(runs, judge),
        _own_kl(runs, judge, margin),
        _equal_kl(equal_kl, judge, margin),
        *(_tuned(runs, duels, judge, margin, view) for view in _TUNED),
        own_reward_model(metrics, share_prompts(runs), margin),
    ]


def section(runs: Sequence[Run], judge: str, equal_kl: Mapping[str, Any] | None, duels: Duels) -> list[Block]:
    """Nothing where one of the two arms is in none of the runs."""
    if any(all(arm not in run.arms for run in runs) for arm in ASKED):
        return []
    columns = [
        Column("claim", lambda row: Cell(str(row["claim"]))),
        Column("statement", lambda row: Cell(row["statement"])),
        Column("view", lambda row: Cell(row["view"])),
        Column("measure", lambda row: Cell(row["measure"])),
        Column("estimate", lambda row: _WRITE[row["unit"]](row, "estimate")),
        count_column("estimate_n", "n"),
        count_column("seeds", "seeds"),
        Column("verdict", lambda row: verdict(row["verdict"])),
        Column("why these runs cannot say", lambda row: Cell(row["reason"] or NONE)),
    ]
    rows = [_shown(found) for found in claims_over_runs(runs, judge, equal_kl, duels)]
    note = (
        "Decided by intervals for other seeds, three at least; the fourth claim has a line for each way of asking."
        " Estimates are ratios (claims 1 and 2), a share of posts (at own KL) or points of per cent. n counts posts, of"
        " claim 3 runs, of claim 5 pairs."
    )
    note = " ".join([note, *unlike_posts(*runs)])
    caption = "What is said of DPO, decided over these runs"
    return [table_of(caption, columns, rows, note), *failures.blocks(runs, judge)]


def _cost(runs: Sequence[Run], claim: int, tolerance: float) -> dict[str, Any]:
    """Of arms that train as long in every run that holds both; else it would be the ratio of the lengths asked for."""
    both = [run for run in runs if all(arm in run.arms for arm in ASKED)]
    lengths = {tuple(run.setting(f"config.budget.{name}") for name in BUDGETS.values()) for run in both}
    if len(lengths) > 1:
        measure = "cost of RLHF over DPO's"
        return row(claim, "cost", measure, None, 1.0, "these runs train for unlike lengths; see at equal time")
    return cost([run.metrics for run in runs], claim, tolerance)


def _simpler(runs: Sequence[Run], judge: str) -> dict[str, Any]:
    both = distinct([run for run in runs if set(ASKED) <= set(run.arms)], *ASKED)
    seeds = len({run.setting("seed") for run in both})
    if len(both) < LEAST_RUNS:
        reason = f"{len(both)} runs of both arms: failures and spread need {LEAST_RUNS}"
        measure = "runs in which PPO failed less those in which DPO did, and the spread of their win rates"
        return row(3, "failures and spread", measure, None, 0.0, reason)
    found = simpler([run.metrics for run in both], judge)
    return found | {"view": "failures and spread", "reason": None, "estimate": found["estimate"] | {"seeds": seeds}}


def _own_kl(runs: Sequence[Run], judge: str, margin: float) -> dict[str, Any]:
    measure = f"share of posts on which DPO beats PPO, judge {judge}, each arm at its own KL; asked to exceed"
    measure = f"{measure} {0.5 - margin:.3g}"
    both = [run for run in runs if set(ASKED) <= set(run.arms)]
    groups = groups_of_seeds(both)
    # Of trials, the presets: the others are the tuned views'.
    presets = [group for group in groups if group[0].setting("config.tuning.trial") == 0]
    groups = presets or groups
    if len(groups) != 1:
        reason = "no run holds both arms" if not both else "each setting has one seed"
        if groups:
            reason = f"{len(groups)} settings, each at its own KL: name the runs of one"
        return row(4, "at own KL", measure, None, 0.5, reason)
    (group,) = groups
    verdicts, pair = Verdicts(group, judge), "_vs_".join(ASKED)
    metrics = [run.metrics for run in group]
    found = duels_across_seeds(metrics, pair, judge, verdicts.of_a_duel(*ASKED), verdicts.shared)["win_rate"]
    if found is None:
        return row(4, "at own KL", measure, None, 0.5, f"a seed has no head to head by {judge}")
    n = min(of["head_to_head"][pair]["win_rate"][judge]["n"] for of in metrics)
    return row(4, "at own KL", measure, found, 0.5 - margin, n=n)


def _equal_kl(found: Mapping[str, Any] | None, judge: str, margin: float) -> dict[str, Any]:
    measure = f"DPO's win rate less PPO's, judge {judge}, at the KLs that both reach; asked to exceed {0 - margin:.3g}"
    if found is None:
        return row(4, "at equal KL", measure, None, 0.0, "an arm has one setting alone: no KL to match (beta_frontier)")
    return row(4, "at equal KL", measure, found, -margin, n=found["n"])


def _tuned(runs: Sequence[Run], duels: Duels, judge: str, margin: float, view: str) -> dict[str, Any]:
    measure = (
        f"DPO's win rate on test posts less PPO's, judge {judge}, each chosen on validation posts among"
        f" {'as many trials' if _TUNED[view] == 'chosen' else 'the trials that equal hours pay for'}; asked to exceed"
        f" {0 - margin:.3g}"
    )
    if not trials(runs):
        return row(4, view, measure, None, 0.0, "these runs are no trials (experiment=tuned)")
    duel = duels.get(_TUNED[view])
    if duel is None:
        return row(4, view, measure, None, 0.0, "an arm has no trial, or none that fits into the hours")
    return row(4, view, measure, duel["difference"], -margin, n=min(of["difference"]["n"] for of in duel["seeds"]))


def _shown(found: Mapping[str, Any]) -> Row:
    unit = "ratio" if found["claim"] < 3 else "share" if found["view"] == "at own KL" else "points"
    of = found["estimate"]
    return {**found, "unit": unit, "seeds": of["seeds"]} | estimate_columns("estimate", of)
