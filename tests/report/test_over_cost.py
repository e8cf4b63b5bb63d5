"""Win rate over what it cost."""

import pytest

from bench import report
from bench.report.over_cost import win_rate_vs_cost


def test_points_stand_at_their_minutes_beyond_sft_and_their_per_cent(make_run, reading):
    run = report.load_run(make_run())
    axes = reading.axes(win_rate_vs_cost(report.policy_points([run]), "gold"))
    assert axes.get_xlabel().endswith(", min")
    seconds = {"SFT": ("sft", 0), "RLHF (PPO)": ("ppo", 120), "DPO": ("dpo", 45)}  # as the fixture sets them
    for label, (arm, wall_s) in seconds.items():
        rate = run.metrics["arms"][arm]["win_rate"]["gold"]
        errors = reading.drawn(axes, label)
        assert list(errors.lines[0].get_xdata()) == pytest.approx([wall_s / 60])
        assert list(errors.lines[0].get_ydata()) == pytest.approx([100 * rate["value"]])
        assert reading.bar(errors, 1) == pytest.approx([100 * end for end in rate["ci95"]])


def test_without_a_trained_arm_there_is_nothing_to_draw(make_run):
    run = report.load_run(make_run(arms=("sft",), gold=False))
    assert win_rate_vs_cost(report.policy_points([run]), "reward_model") is None
