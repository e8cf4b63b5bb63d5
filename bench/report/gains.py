"""Over-optimisation over several runs: what each policy's KL bought, and what it bought on the way."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.evaluate.overoptimisation import MIN_POINTS, fit_over_points
from bench.report.load import NOT_TRAINED, Run, distinct, records
from bench.report.over_kl import FORMS, REWARDS, Curve, fits_table, gain_over_kl, turn_in_words
from bench.report.page import Block, Figures, Text
from bench.report.plot import Plot, drawn
from bench.report.sections.overoptimisation import best_of_n_rows, in_training_table
from bench.report.words import Row, arm_name, is_number


def section(runs: Sequence[Run], policies: Sequence[Row]) -> list[Block]:
    """Nothing where no run was watched and no arm has policies enough, at several betas, for a fit.

    Args:
        policies: of `policies.policy_points`.
    """
    of_arm = _by_arm(policies)
    arms = [*of_arm]
    if not _on_the_way(runs, arms) and not any(_are_enough(rows) for rows in of_arm.values()):
        return []
    fits = {arm: over_policies(rows) for arm, rows in of_arm.items()}
    best = distinct([run for run in runs if "best_of_n" in run.arms], "best_of_n")
    of_n = [run.metrics["best_of_n"].get("fits", {}) for run in best]
    table = [(arm, reward, fits[arm][reward]) for arm in arms for reward in REWARDS if reward in fits[arm]]
    table += [("best_of_n", reward, fit[reward]) for fit in of_n for reward in REWARDS if reward in fit]
    turns = [
        f"Over its {fit['points']} policies: {turn}"
        for arm, reward, fit in table
        if reward == "gold" and arm != "best_of_n" and (turn := turn_in_words(arm, reward, fit))
    ]
    chosen = any(run.setting("config.samples_in_training.keep_best") for run in runs)
    state = "chosen on its way" if chosen else "trained to the end"
    return [
        Text(
            f"Gained is the reward above the SFT model's on the same posts. Over policies: one point each, as {state};"
            " on the way: one line for each training."
        ),
        *([Text(" ".join(turns))] if turns else []),
        Figures(gain_figures(runs, policies)),
        fits_table(
            "What the forms of Gao et al. 2022 say over policies",
            table,
            f"d is the root of KL; fitted are {FORMS}, by least squares. Intervals of"
            f" {' and '.join(arm_name(arm, short=True) for arm in arms)}: Student's t over policies, betas and seeds"
            " alike; of best of n, a table row for each seed: a bootstrap over prompts.",
        ),
    ]


def gain_figures(runs: Sequence[Run], policies: Sequence[Row]) -> list[Plot]:
    """Gold and proxy reward gained over the root of KL: over policies, and on the way through their trainings.

    Args:
        policies: of `policies.policy_points`.
    """
    of_arm = _by_arm(policies)
    on_the_way = _on_the_way(runs, [*of_arm])
    fits = {arm: over_policies(rows) for arm, rows in of_arm.items()}
    best = distinct([run for run in runs if "best_of_n" in run.arms], "best_of_n")
    of_n = [run.metrics["best_of_n"].get("fits", {}) for run in best]
    ends, ways = [], []
    for reward in REWARDS:
        curves = [
            Curve(arm, sorted(rows, key=lambda row: row["kl_ref"]), fits[arm].get(reward), is_line=False)
            for arm, rows in of_arm.items()
        ]
        curves += [
            Curve("best_of_n", best_of_n_rows(run), fit.get(reward), is_line=False)
            for run, fit in zip(best, of_n, strict=True)
        ]
        title = f"{reward.capitalize()} reward gained"
        ends.append(gain_over_kl(f"{reward}_over_kl", f"{title}, over policies", reward, curves))
        ways.append(gain_over_kl(f"{reward}_over_kl_in_training", f"{title} on the way", reward, on_the_way))
    return drawn([*ends, *ways])


def _by_arm(policies: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of every arm that is trained."""
    arms = [arm for arm in dict.fromkeys(row["arm"] for row in policies) if arm not in (*NOT_TRAINED, "best_of_n")]
    return {arm: [row for row in policies if row["arm"] == arm] for arm in arms}


def _are_enough(rows: Sequence[Row]) -> bool:
    known = [row["beta"] for row in rows if any(is_number(row.get(f"gain_{reward}")) for reward in REWARDS)]
    return len(known) >= MIN_POINTS and len(set(known)) > 1


def over_policies(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Reward -> the form fitted to an arm's policies, by their means."""
    found = {}
    for reward in REWARDS:
        known = [row for row in rows if is_number(row.get(f"gain_{reward}")) and is_number(row.get("kl_ref"))]
        if known:
            kl, gain = (np.array([row[column] for row in known]) for column in ("kl_ref", f"gain_{reward}"))
            found[reward] = fit_over_points("rl", kl, gain)
    return found


def _on_the_way(runs: Sequence[Run], arms: Sequence[str]) -> list[Curve]:
    """A curve for each distinct policy that was watched."""
    curves = []
    for arm in arms:
        for run in distinct([run for run in runs if arm in run.arms], arm):
            rows = [row for row in records(in_training_table(run)) if row["arm"] == arm]
            if rows:
                curves.append(Curve(arm, rows))
    return curves
