"""The answer over seeds, from head-to-head rates that are known."""

import math
from typing import Any

import numpy as np
import pytest

from bench import report
from bench.report.compare import comparison_page
from bench.report.duel_over_seeds import answer, duel_forest, duel_points, duel_summaries
from bench.report.page import Table, to_html, to_markdown

RATES = {"gold": (0.6, 0.62, 0.64), "reward_model": (0.45, 0.5, 0.55)}


@pytest.fixture
def runs(make_run, edit):
    found = []
    for seed in range(3):
        path = make_run(f"s{seed}", seed=seed)

        def change(metrics: Any, seed: int = seed) -> None:
            for judge, rates in RATES.items():
                rate = {"value": rates[seed], "ci95": [rates[seed] - 0.1, rates[seed] + 0.1], "n": 40 - seed}
                metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"][judge].update(rate)
                ahead = {"value": 0.05 + 0.01 * seed, "ci95": [0.0, 0.1], "n": 40}
                metrics["head_to_head"]["dpo_vs_ppo"]["mcnemar"][judge]["difference"] = ahead
            metrics["arms"]["dpo"]["kl_ref"]["value"] = 1.0 + seed
            metrics["arms"]["ppo"]["kl_ref"]["value"] = 0.5

        edit(path / "metrics.json", change)
        found.append(report.load_run(path))
    return found


def interval(rates: tuple[float, ...]) -> str:
    """Student's t of two degrees of freedom on the logit scale."""
    mean = sum(rates) / 3
    half = 4.302653 * float(np.std(rates, ddof=1)) / math.sqrt(3) / (mean * (1 - mean))
    low, high = (100 / (1 + (1 - mean) / mean * math.exp(-side * half)) for side in (-1, 1))
    return f"{100 * mean:.1f} % [{low:.1f}, {high:.1f}]"


def test_the_answer_has_judge_interval_n_seeds_both_kls_and_who_disagrees(runs):
    first, second = answer(runs, "gold")

    assert first.startswith(
        "DPO beats RLHF (PPO) over 3 seeds of 38 posts, gold judge: DPO wins " + interval(RATES["gold"])
    )
    assert "difference of win rates against the reference summary 6.0 points [" in first
    assert first.endswith(
        "at KL 2.00 (DPO, 1.00 to 3.00) against 0.50 (RLHF (PPO), 0.50 to 0.50) nats to the SFT model."
    )
    assert second.startswith("The reward-model judge does not say so: DPO against RLHF (PPO) is not decided at this n")
    assert interval(RATES["reward_model"]) in second
    assert comparison_page(runs).answer[:2] == [first, second]


def test_judges_that_agree_are_told_once_and_two_seeds_decide_nothing(runs):
    (line,) = answer(runs[:2], "gold")

    assert "is not decided at this n over 2 seeds" in line and line.endswith("(2 seeds: an interval needs 3).")


def test_without_both_arms_there_is_no_answer(make_run):
    alone = [report.load_run(make_run(f"d{seed}", seed=seed, arms=("sft", "dpo"))) for seed in (0, 1)]

    assert answer(alone, "gold") == []


def test_the_forest_has_every_seed_and_the_mean_with_their_intervals(runs, reading):
    plot = duel_forest(duel_summaries(runs), duel_points(runs), "gold")

    axes = reading.axes(plot)
    seeds, mean = axes.containers
    assert list(seeds.lines[0].get_xdata()) == pytest.approx([60, 62, 64])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["seed 0", "seed 1", "seed 2", "mean"]
    assert reading.bar(seeds, 0) == pytest.approx([50, 70])
    assert list(mean.lines[0].get_xdata()) == pytest.approx([62])
    low, high = reading.bar(mean, 0)
    assert f"62.0 % [{low:.1f}, {high:.1f}]" == interval(RATES["gold"])
    assert list(mean.lines[0].get_ydata()) == [0]


def test_the_duels_of_every_run_are_folded_and_last(runs):
    page = comparison_page(runs)

    (table,) = page.sections[-1].blocks
    assert isinstance(table, Table) and table.folded
    html = to_html(page)
    assert f"<summary>Head to head within each run ({len(table.rows)} rows)</summary>" in html
    assert to_markdown(page).index("## Head to head in each run") > to_markdown(page).index("## Runs")
