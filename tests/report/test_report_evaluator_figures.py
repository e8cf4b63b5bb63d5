"""The figures of length, best of n, strengths and seeds draw the numbers of metrics.json."""

from typing import Any

import pytest

from bench import report
from bench.report import over_seeds
from bench.report.load import records
from bench.report.sections import best_of_n, head_to_head, length


def axes_of(plot: report.Plot | None) -> Any:
    assert plot is not None
    (axes,) = plot.figure.axes
    return axes


def container(axes: Any, label: str) -> Any:
    return next(c for c in axes.containers if c.get_label() == label)


def interval(errors: Any, direction: int) -> list[float]:
    """Ends of the first point's error bar along x or y."""
    return [end[direction] for end in errors.lines[2][0].get_segments()[0]]


@pytest.fixture(scope="module")
def run(tmp_path_factory, write_run):
    arms = ("sft", "best_of_n", "ppo", "dpo", "reference")
    return report.load_run(write_run(tmp_path_factory.mktemp("figures") / "run", arms=arms, logs=False))


def test_win_rate_by_length_leaves_out_empty_bins(run):
    plot = length.win_rate_by_length(run)[0]
    axes = axes_of(plot)
    bins = run.metrics["arms"]["dpo"]["win_rate_by_length"]["gold"]
    points = container(axes, "DPO").lines[0]
    assert list(points.get_ydata()) == pytest.approx([100 * bin_["value"] for bin_ in bins[1:]])
    assert [round(x) for x in points.get_xdata()] == [1, 2, 3, 4]  # of five bins the first holds no prompt
    assert interval(container(axes, "DPO"), 1) == pytest.approx([100 * end for end in bins[1]["ci95"]])
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["below 0.5", "0.5 to 0.8", "0.8 to 1.25", "1.25 to 2", "2 and more"]
    assert f"DPO, 2 and more: {100 * bins[4]['value']:.1f} %" in plot.alt


def test_best_of_n_is_drawn_over_n_for_each_judge(run):
    plot = best_of_n.best_of_n_curve(run)
    axes = axes_of(plot)
    by_n = run.metrics["best_of_n"]["by_n"]
    for judge, label in (("gold", "gold judge"), ("reward_model", "reward-model judge")):
        line = container(axes, label).lines[0]
        assert list(line.get_xdata()) == [1, 2, 4, 16]
        assert list(line.get_ydata()) == [100 * by_n[str(n)]["win_rate"][judge]["value"] for n in (1, 2, 4, 16)]
    assert axes.get_xscale() == "log"


def test_no_best_of_n_arm_means_no_curve(write_run, tmp_path):
    assert best_of_n.best_of_n_curve(report.load_run(write_run(tmp_path / "run", logs=False))) is None


def test_strengths_are_drawn_from_weak_to_strong_with_intervals(run):
    plot = head_to_head.strength_bars(run)[0]
    axes = axes_of(plot)
    strengths = run.metrics["bradley_terry"]["gold"]
    names = {"sft": "SFT", "best_of_n": "Best of n", "ppo": "RLHF (PPO)", "dpo": "DPO", "reference": "Reference"}
    order = sorted(strengths, key=lambda arm: strengths[arm]["value"])
    assert [label.get_text() for label in axes.get_yticklabels()] == [names[arm] for arm in order]
    for arm, errors in zip(order, axes.containers, strict=True):
        assert list(errors.lines[0].get_xdata()) == [strengths[arm]["value"]]
        assert interval(errors, 0) == pytest.approx(strengths[arm]["ci95"])


def test_seeds_are_points_the_mean_is_a_line_and_a_collapsed_seed_is_a_cross(write_run, edit, tmp_path):
    values = {0: 0.6, 1: 0.7, 2: 0.1}
    runs = []
    for seed, value in values.items():
        path = write_run(tmp_path / f"s{seed}", seed=seed, arms=("sft", "dpo", "reference"), logs=False)

        def change(metrics, value=value):
            metrics["arms"]["dpo"]["win_rate"]["gold"].update(value=value, ci95=[value - 0.05, value + 0.05])
            lost = {"value": value - 0.4, "ci95": [value - 0.6, value - 0.2], "n": 58}
            metrics["head_to_head"]["dpo_vs_sft"]["mcnemar"]["gold"] |= {"difference": lost, "p_value": 0.001}

        edit(path / "metrics.json", change)
        runs.append(report.load_run(path))
    summaries, points = report.seed_summaries(runs), report.seed_points(runs)

    plot = over_seeds.win_rate_over_seeds(summaries, points, "gold")

    assert plot is not None
    axes = axes_of(plot)
    drawn = [(errors.lines[0].get_ydata()[0], errors.lines[0].get_marker()) for errors in axes.containers]
    assert drawn == [(pytest.approx(60), "o"), (pytest.approx(70), "o"), (pytest.approx(10), "x")]
    (mean,) = (row["win_rate"] for row in records(summaries) if row["judge"] == "gold")
    assert mean == pytest.approx((0.6 + 0.7 + 0.1) / 3)
    assert axes.collections[-1].get_segments()[0][0][1] == pytest.approx(100 * mean)
    assert "seed 2 10.0 % (collapsed)" in plot.alt
