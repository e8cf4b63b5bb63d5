"""Several settings of both arms: what each reaches at equal KL to the SFT model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.evaluate.matched_kl import Frontiers, Policy, matched_kl
from bench.report.by_prompt import kls, points, share_prompts
from bench.report.columns import Column, points_column, share_column, table_of
from bench.report.load import ASKED, Run, estimate_columns, policy_of
from bench.report.page import Block, Figures, Text
from bench.report.plot import Plot, arm_colour, new_axes, root_of_kl_axis, slug, styled
from bench.report.words import Cell, arm_name, count, difference_in_words, judge_name, number, seeds_in_words


def frontiers(runs: Sequence[Run], judge: str) -> Frontiers:
    """seed -> the distinct policies of DPO, and of PPO, that were judged on their prompts; seeds that lack an arm's are
    left out. A policy that several runs share is there once, by its stage's key."""
    found: dict[int, tuple[dict[Any, Policy], dict[Any, Policy]]] = {}
    for run in runs:
        of_seed = found.setdefault(run.setting("seed"), ({}, {}))
        for arm, policies in zip(ASKED, of_seed, strict=True):
            key = policy_of(run, arm)
            if arm in run.metrics["arms"] and key not in policies:
                of_prompts = Policy(kls(run, arm), points(run, arm, judge))
                if of_prompts.kl and of_prompts.points:
                    policies[key] = of_prompts
    return {seed: ([*a.values()], [*b.values()]) for seed, (a, b) in found.items() if a and b}


def matched(runs: Sequence[Run], judge: str) -> dict[str, Any] | None:
    """`matched_kl` of the two arms; None where one has a single setting."""
    of_seeds = frontiers(runs, judge)
    if not of_seeds or any(min(map(len, arms)) < 2 for arms in of_seeds.values()):
        return None
    return matched_kl(of_seeds, shared=share_prompts(runs))


def section(found: dict[str, Any] | None, judge: str) -> list[Block]:
    """At equal KL, of `matched`."""
    if found is None:
        return []
    said = in_words(found, judge)
    if found["reason"]:
        return [Text(said)]
    rows = []
    for row in found["at"]:
        columns = (estimate_columns(name, row[name]) for name in ("first", "second", "difference"))
        rows.append({"kl": row["kl"]} | {key: value for of in columns for key, value in of.items()})
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    return [
        Text(said),
        Figures([at_equal_kl(found, judge)]),
        table_of(
            f"Win rate against the reference summary at equal KL, {judge_name(judge)}",
            [
                Column("KL to SFT (nats)", lambda row: Cell(number(row["kl"], 2))),
                share_column("first", first),
                share_column("second", second),
                points_column("difference", f"{first} minus {second} (points)"),
            ],
            rows,
            "Each seed's frontier is interpolated in the root of KL between the settings that were run, never beyond"
            " them. Intervals: over seeds (Student's t) from three seeds on, else a bootstrap over prompts that moves"
            " KL and win rate together.",
        ),
    ]


def in_words(found: dict[str, Any], judge: str) -> str:
    """`At equal KL, 0.8 to 4.1 nats, DPO's win rate is 3.2 points above RLHF's [-1.0, 7.4]: not decided.`"""
    first, second = (arm_name(arm, short=True) for arm in ASKED)
    if found["reason"]:
        return f"At equal KL, {judge_name(judge)}: not compared, {found['reason']}."
    start, end = (number(kl, 2) for kl in found["range"])
    return (
        f"At equal KL ({start} to {end} nats, {seeds_in_words(found['seeds'])} of"
        f" {found['n']} prompts), {judge_name(judge)}: {first}'s win rate less {second}'s is"
        f" {difference_in_words(found['value'], found['ci95'], first, second)}."
    )


@styled
def at_equal_kl(found: dict[str, Any], judge: str) -> Plot:
    """Both arms' interpolated win rates over the KLs that both reach, with their intervals.

    Args:
        found: of `matched_kl`, not refused.
    """
    figure, axes = new_axes()
    roots = np.sqrt([row["kl"] for row in found["at"]])
    parts = []
    for arm, name in zip(ASKED, ("first", "second"), strict=True):
        values = 100 * np.array([row[name]["value"] for row in found["at"]])
        low, high = 100 * np.array([row[name]["ci95"] for row in found["at"]]).T
        axes.plot(roots, values, color=arm_colour(arm), label=arm_name(arm, short=True))
        axes.fill_between(roots, low, high, color=arm_colour(arm), alpha=0.2, linewidth=0)
        parts.append(f"{arm_name(arm)}: {number(values[0], 1)} to {number(values[-1], 1)} %")
    axes.set_xlim(left=0)
    root_of_kl_axis(axes)
    title = f"Win rate at equal KL, {judge_name(judge)}"
    axes.set(title=title, ylabel="% of posts")
    figure.legend(loc="outside lower center", ncols=2)
    caption = (
        f"{seeds_in_words(found['seeds'])} of {count(found['n'])} posts; bands: 95 %. Only where both arms have been;"
        " what is higher wins more at the same distance from the SFT model."
    )
    return Plot(f"at_equal_kl_{slug(judge)}", title, f"{title}. {'; '.join(parts)}.", figure, caption)
