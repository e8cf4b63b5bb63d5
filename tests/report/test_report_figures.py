"""The figures draw the numbers of the tables, and the same SVG every time."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from bench import report
from bench.report import over_beta
from bench.report.load import records
from bench.report.sections import cost, results, training


def axes_of(plot: report.Plot | None) -> Any:
    assert plot is not None
    (axes,) = plot.figure.axes
    return axes


def drawn_as(axes: Any, label: str) -> Any:
    """The line of points that the legend calls `label`."""
    return next(container for container in axes.containers if container.get_label() == label).lines[0]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, write_run):
    return write_run(tmp_path_factory.mktemp("figures") / "run")


@pytest.fixture(scope="module")
def plots(run_dir):
    """Every figure of the default run; an SVG is drawn once."""
    return all_plots(report.load_run(run_dir))


def all_plots(run):
    plots = [plot for stage in ("sft", "reward", "dpo", "ppo") for plot in training.training_plots(run, stage)]
    return [*plots, *results.win_rate_bars(run), cost.cost_bars(run), cost.memory_bars(run)]


@pytest.mark.slow
def test_two_renderings_are_the_same_to_the_byte(run_dir, plots):
    again = all_plots(report.load_run(run_dir))
    assert [plot.svg() for plot in again] == [plot.svg() for plot in plots]


def test_every_plot_is_an_svg_with_a_name_a_description_and_units(plots):
    assert len({plot.name for plot in plots}) == len(plots) == 14
    for plot in plots:
        assert ET.fromstring(plot.svg()).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(plot.alt) > len(plot.title)
        assert axes_of(plot).get_title(loc="left") and axes_of(plot).get_xlabel()


def test_inline_svgs_of_one_page_share_no_id(plots):
    ids = [set(re.findall(r'\bid="([^"]+)"', plot.inline_svg())) for plot in plots]
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_inline_svg_refers_to_ids_that_it_has(plots):
    for plot in plots:
        svg = plot.inline_svg()
        used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
        assert used and used <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_win_rate_bars_are_in_per_cent_with_their_intervals(make_run):
    run = report.load_run(make_run())
    rows: Any = results.arm_table(run).to_dict("index")
    axes = axes_of(results.win_rate_bars(run)[0])
    arms = ["base", "sft", "ppo", "dpo"]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([100 * rows[arm]["win_rate_gold"] for arm in arms])
    (errors,) = (container for container in axes.containers if hasattr(container, "has_yerr"))
    segments = errors.lines[2][0].get_segments()
    for arm, segment in zip(arms, segments, strict=True):
        ends = [100 * rows[arm]["win_rate_gold_low"], 100 * rows[arm]["win_rate_gold_high"]]
        assert list(segment[:, 1]) == pytest.approx(ends)


def test_cost_bars_stack_the_stages_of_an_arm(make_run):
    axes = axes_of(cost.cost_bars(report.load_run(make_run())))
    ends: dict[str, list[Any]] = {}
    for container in axes.containers:
        for bar in container.patches:
            row = axes.get_yticklabels()[round(bar.get_y() + bar.get_height() / 2)].get_text()
            ends.setdefault(row, []).append((bar.get_x(), bar.get_x() + bar.get_width()))
    assert ends["RLHF (PPO)"] == [
        (0, pytest.approx(30 / 3600)),
        (pytest.approx(30 / 3600), pytest.approx(120 / 3600)),
    ]
    assert ends["DPO"] == [(0, pytest.approx(45 / 3600))]
    assert ends["Shared by both"][-1][1] == pytest.approx((40 + 20) / 3600)


def test_a_missing_log_column_leaves_its_plot_out(make_run):
    with_gold = {plot.name for plot in training.training_plots(report.load_run(make_run("a")), "ppo")}
    without = {plot.name for plot in training.training_plots(report.load_run(make_run("b", gold=False)), "ppo")}
    assert with_gold - without == {"training_ppo_gold"}


def test_no_arm_trained_means_no_memory_bars(make_run):
    assert cost.memory_bars(report.load_run(make_run(arms=("sft",)))) is None


def test_policies_over_beta_are_drawn_on_a_log_axis_in_order(make_run):
    runs = [report.load_run(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.5, 0.02, 0.1)]
    points = report.policy_points(runs)
    axes = axes_of(over_beta.kl_vs_beta(points))
    dpo = drawn_as(axes, "DPO")
    assert list(dpo.get_xdata()) == [0.02, 0.1, 0.5]
    by_beta = {row["beta"]: row["kl_ref"] for row in records(points) if row["arm"] == "dpo"}
    assert list(dpo.get_ydata()) == [by_beta[0.02], by_beta[0.1], by_beta[0.5]]
    assert axes.get_xscale() == "log"


def test_beta_zero_has_a_place_on_the_axis(make_run):
    runs = [report.load_run(make_run(f"b{beta}", ppo_beta=beta)) for beta in (0.001, 0.1)]
    points = report.policy_points(runs)
    points.loc[points["beta"] == 0.001, "beta"] = 0.0
    axes = axes_of(over_beta.kl_vs_beta(points))
    left, right = axes.transData.transform([(0.0, 0.0), (0.1, 0.0)])[:, 0]
    assert axes.get_xscale() == "symlog" and np.isfinite([left, right]).all() and left < right


@pytest.mark.parametrize(("gold", "kind"), [(True, "gold reward"), (False, "proxy reward")])
def test_reward_kl_points_take_gold_where_it_is_known(make_run, gold, kind):
    run = report.load_run(make_run(gold=gold))
    points = report.policy_points([run])
    axes = axes_of(over_beta.reward_kl_points(points))
    assert axes.get_ylabel() == kind
    (row,) = (row for row in records(points) if row["arm"] == "ppo")
    ppo = drawn_as(axes, "RLHF (PPO)")
    assert list(ppo.get_xdata()) == [row["kl_ref"]]
    assert list(ppo.get_ydata()) == [row["reward_gold" if gold else "reward_proxy"]]
