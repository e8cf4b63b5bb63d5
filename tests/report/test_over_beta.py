"""Win rate, KL and reward of the policies of a sweep."""

import numpy as np
import pandas as pd
import pytest

from bench import report
from bench.report import over_beta
from bench.report.load import records


def test_policies_over_beta_are_drawn_on_a_log_axis_in_order(make_run, reading):
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.5, 0.02, 0.1)]
    points = report.policy_points(runs)
    axes = reading.axes(over_beta.kl_vs_beta(points))
    dpo = reading.drawn(axes, "DPO").lines[0]
    assert list(dpo.get_xdata()) == [0.02, 0.1, 0.5]
    by_beta = {row["beta"]: row["kl_ref"] for row in records(points) if row["arm"] == "dpo"}
    assert list(dpo.get_ydata()) == [by_beta[0.02], by_beta[0.1], by_beta[0.5]]
    assert axes.get_xscale() == "log"


def test_beta_zero_has_a_place_on_the_axis(make_run, reading):
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.02, 0.1)]
    points = report.policy_points(runs)
    points.loc[points["beta"] == 0.02, "beta"] = 0.0
    axes = reading.axes(over_beta.kl_vs_beta(points))
    left, right = axes.transData.transform([(0.0, 0.0), (0.1, 0.0)])[:, 0]
    assert axes.get_xscale() == "symlog" and np.isfinite([left, right]).all() and left < right


@pytest.mark.parametrize(("gold", "kind"), [(True, "gold reward"), (False, "proxy reward")])
def test_reward_kl_points_take_gold_where_it_is_known(make_run, reading, gold, kind):
    run = report.load_run(make_run(gold=gold))
    points = report.policy_points([run])
    axes = reading.axes(over_beta.reward_kl_points(points))
    assert axes.get_ylabel() == kind
    (row,) = (row for row in records(points) if row["arm"] == "ppo")
    ppo = reading.drawn(axes, "RLHF (PPO) (at its beta)").lines[0]
    assert list(ppo.get_xdata()) == pytest.approx([row["kl_ref"] ** 0.5])
    assert "0.05" in [text.get_text() for text in axes.texts]  # PPO's beta, beside its point
    assert list(ppo.get_ydata()) == [row["reward_gold" if gold else "reward_proxy"]]


def test_whether_kl_falls_with_beta_is_said_over_the_seeds(make_run):
    """Three betas of two seeds, in order in one and with two neighbours swapped in the other: (-1 - 0.5) / 2."""
    runs = [report.load_run(make_run(f"b{i}", dpo_beta=beta)) for i, beta in enumerate((0.02, 0.1, 0.5))]
    points = report.policy_points(runs)
    points = points.query("arm == 'dpo'")
    two = pd.concat([points.assign(seed=0, kl_ref=[3.0, 2.0, 1.0]), points.assign(seed=1, kl_ref=[2.0, 3.0, 1.0])])
    (said,) = over_beta.kl_and_beta(two)
    assert said.startswith("DPO's KL against beta: rank correlation -0.75 [") and "over 6 points of 2 seeds" in said
    assert over_beta.kl_and_beta(two.query("beta != 0.1")) == []  # two betas have an order by chance


def test_labels_of_betas_that_would_touch_are_left_out(make_run, reading):
    points = report.policy_points([report.load_run(make_run())]).query("arm == 'dpo'")
    betas = [0.02, 0.03, 0.1, 1.0, 2.0]
    sweep = pd.concat([points.assign(beta=beta) for beta in betas])
    axes = reading.axes(over_beta.kl_vs_beta(sweep))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.02", "", "0.1", "1", "2"]


def test_an_arm_of_one_beta_is_not_drawn_over_beta(make_run, reading):
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.02, 0.1)]
    axes = reading.axes(over_beta.kl_vs_beta(report.policy_points(runs)))
    assert [container.get_label() for container in axes.containers] == ["DPO"]


def test_policies_of_one_arm_and_seed_are_joined_in_the_order_of_their_kl(make_run, reading):
    points = report.policy_points([report.load_run(make_run())]).query("arm == 'dpo'")
    kls = [4.0, 0.25, 1.0]
    sweep = pd.concat(
        [points.assign(beta=b, kl_ref=kl, reward_gold=kl / 10) for b, kl in zip((0.1, 0.5, 0.2), kls, strict=True)]
    )
    of_n = [{"kl_ref": 0.0, "reward_gold": 0.1}, {"kl_ref": 2.25, "reward_gold": 0.3}]
    axes = reading.axes(over_beta.reward_kl_points(sweep, of_n))
    best_of_n, line = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 1]
    assert list(line.get_xdata()) == pytest.approx([0.5, 1.0, 2.0])
    assert list(line.get_ydata()) == pytest.approx([0.025, 0.1, 0.4])
    assert list(best_of_n.get_xdata()) == pytest.approx([0, 1.5])
    assert {text.get_text() for text in axes.texts} == {"0.1", "0.2", "0.5"}
