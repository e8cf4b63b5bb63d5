"""Several settings of both arms: what each reaches at equal KL to the SFT model, and in equal time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.evaluate.matched import Frontiers, Policy
from bench.evaluate.matched import matched as matched_frontiers
from bench.report.by_prompt import kls, points, share_prompts
from bench.report.columns import Column, points_column, share_column, table_of
from bench.report.load import ASKED, Run, estimate_columns, policy_of
from bench.report.page import Block, Figures, Text
from bench.report.plot import Plot, arm_colour, new_axes, root_of_kl_axis, slug, styled
from bench.report.words import (
    Cell,
    TimeUnit,
    arm_name,
    count,
    difference_in_words,
    judge_name,
    number,
    seeds_in_words,
    time_unit,
)

Spent = Callable[[Run, str], Mapping[str, float]]
"""(run, arm) -> what the policy spent, by prompt; empty where that is not known."""
BUDGETS = {"ppo": "ppo_episodes", "dpo": "dpo_epochs"}
"""Arm -> the budget that says how long it trains."""


@dataclass(frozen=True)
class Equal:
    """What the arms are held equal in.

    Attributes:
        name: `KL`, `device time`, `CPU time`.
        unit: in which it is written.
        spent: of a policy.
        how_far: what is said of arms that are equal in it.
    """

    name: str
    unit: TimeUnit
    spent: Spent
    how_far: str


KL = Equal("KL", TimeUnit("nats", 1.0, 2), kls, "at the same distance from the SFT model")


def budgets_differ(runs: Sequence[Run]) -> bool:
    """Whether both arms were trained for several lengths: else there is no line over time to read them from."""
    varied = ({run.setting(f"config.budget.{BUDGETS[arm]}") for run in runs if arm in run.arms} for arm in ASKED)
    return all(len(budgets) > 1 for budgets in varied)


def equal_time(runs: Sequence[Run]) -> Equal | None:
    """The time beyond the SFT model: device time as it was measured again, or as it was measured; where other work kept
    the machine busy, CPU time. None where no run has either arm, or one's cost is not known."""
    costs = [run.metrics["arms"][arm].get("cost", {}) for run in runs for arm in ASKED if arm in run.arms]
    if not costs or any(cost.get("device_hours") is None for cost in costs):
        return None
    if all("remeasured" in cost for cost in costs):
        name, hours = "device time", lambda cost: cost["remeasured"]["device_hours"]
    elif any(cost.get("busy") for cost in costs):
        name, hours = "CPU time", lambda cost: cost["cpu_s"] / 3600
    else:
        name, hours = "device time", lambda cost: cost["device_hours"]

    def spent(run: Run, arm: str) -> Mapping[str, float]:
        taken: float = hours(run.metrics["arms"][arm]["cost"])
        return {prompt: taken for prompt in kls(run, arm)}

    return Equal(name, time_unit(map(hours, costs)), spent, "for the same time beyond the SFT model")


def frontiers(runs: Sequence[Run], judge: str, spent: Spent = kls) -> Frontiers:
    """seed -> the distinct policies of DPO, and of PPO, that were judged on their prompts; seeds that lack an arm's are
    left out. A policy that several runs share is there once, by its stage's key."""
    found: dict[int, tuple[dict[Any, Policy], dict[Any, Policy]]] = {}
    for run in runs:
        of_seed = found.setdefault(run.setting("seed"), ({}, {}))
        for arm, policies in zip(ASKED, of_seed, strict=True):
            key = policy_of(run, arm)
            if arm in run.metrics["arms"] and key not in policies:
                of_prompts = Policy(spent(run, arm), points(run, arm, judge))
                if of_prompts.spent and of_prompts.points:
                    policies[key] = of_prompts
    return {seed: ([*a.values()], [*b.values()]) for seed, (a, b) in found.items() if a and b}


def matched(runs: Sequence[Run], judge: str, equal: Equal = KL) -> dict[str, Any] | None:
    """`evaluate.matched` of the two arms, over the seeds in which both have several settings; None where none has."""
    found = frontiers(runs, judge, equal.spent)
    of_seeds = {seed: arms for seed, arms in found.items() if min(map(len, arms)) > 1}
    if not of_seeds:
        return None
    unit = f"{equal.name}, {'nats' if equal is KL else 'hours'}"
    return matched_frontiers(of_seeds, shared=share_prompts(runs), unit=unit)


def section(found: dict[str, Any] | None, judge: str, equal: Equal = KL) -> list[Block]:
    """Of `matched`."""
    if found is None:
        return []
    said = in_words(found, judge, equal)
    if found["reason"]:
        return [Text(said)]
    rows = []
    for row in found["at"]:
        columns = (estimate_columns(name, row[name]) for name in ("first", "second", "difference"))
        rows.append({"spent": row["spent"]} | {key: value for of in columns for key, value in of.items()})
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    title = f"{'KL to SFT' if equal is KL else equal.name} ({equal.unit.sign})"
    return [
        Text(said),
        Figures([at_equal(found, judge, equal)]),
        table_of(
            f"Win rate against the reference summary at equal {equal.name}, {judge_name(judge)}",
            [
                Column(title, lambda row: Cell(equal.unit.write(row["spent"]))),
                share_column("first", first),
                share_column("second", second),
                points_column("difference", f"{first} minus {second} (points)"),
            ],
            rows,
            f"Each seed's frontier is interpolated in the root of {equal.name} between the settings that were run,"
            " never beyond them. Intervals: over seeds (Student's t) from three seeds on, else a bootstrap over prompts"
            " that moves KL and win rate together.",
        ),
    ]


def in_words(found: dict[str, Any], judge: str, equal: Equal = KL) -> str:
    """`At equal KL, 0.8 to 4.1 nats, DPO's win rate is 3.2 points above RLHF's [-1.0, 7.4]: not decided.`"""
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    if found["reason"]:
        return f"At equal {equal.name}, {judge_name(judge)}: not compared, {found['reason']}."
    start, end = (equal.unit.write(of) for of in found["range"])
    return (
        f"At equal {equal.name} ({start} to {end} {equal.unit.sign}, {seeds_in_words(found['seeds'])} of"
        f" {found['n']} prompts), {judge_name(judge)}: {first}'s win rate less {second}'s is"
        f" {difference_in_words(found['value'], found['ci95'], first, second)}."
    )


@styled
def at_equal(found: dict[str, Any], judge: str, equal: Equal = KL) -> Plot:
    """Both arms' interpolated win rates over what both have spent, with their intervals.

    Args:
        found: of `matched`, not refused.
    """
    figure, axes = new_axes()
    spent = np.array([row["spent"] for row in found["at"]])
    xs = np.sqrt(spent) if equal is KL else spent * equal.unit.per_hour
    parts = []
    for arm, name in zip(ASKED, ("first", "second"), strict=True):
        values = 100 * np.array([row[name]["value"] for row in found["at"]])
        low, high = 100 * np.array([row[name]["ci95"] for row in found["at"]]).T
        axes.plot(xs, values, color=arm_colour(arm), label=arm_name(arm, short=True))
        axes.fill_between(xs, low, high, color=arm_colour(arm), alpha=0.2, linewidth=0)
        parts.append(f"{arm_name(arm)}: {number(values[0], 1)} to {number(values[-1], 1)} %")
    axes.set_xlim(left=0)
    if equal is KL:
        root_of_kl_axis(axes)
    else:
        axes.set_xlabel(f"{equal.name} beyond the SFT model, {equal.unit.sign}")
    title = f"Win rate at equal {equal.name}, {judge_name(judge)}"
    axes.set(title=title, ylabel="% of posts")
    figure.legend(loc="outside lower center", ncols=2)
    caption = (
        f"{seeds_in_words(found['seeds'])} of {count(found['n'])} posts; bands: 95 %. Only where both arms have been;"
        f" what is higher wins more {equal.how_far}."
    )
    return Plot(
        f"at_equal_{slug(equal.name.lower())}_{slug(judge)}", title, f"{title}. {'; '.join(parts)}.", figure, caption
    )
