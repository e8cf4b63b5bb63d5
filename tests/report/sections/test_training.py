"""The curves of the training logs."""

import json

import pytest

from bench import report
from bench.arms import ARMS, STAGES
from bench.report.sections import training


def test_curves_are_in_step_order(make_run):
    path = make_run()
    log = path / "training" / "sft.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join(reversed(lines)))

    curves = training.training_curves(report.load_run(path), "sft")

    assert list(curves["step"]) == list(range(1, 41))
    assert curves["loss"].iloc[0] == json.loads(lines[0])["loss"]
    assert training.training_curves(report.load_run(path), "rloo").empty


def test_a_missing_log_column_leaves_its_plot_out(make_run):
    with_gold = {plot.name for plot in training.training_plots(report.load_run(make_run("a")), "ppo")}
    without = {plot.name for plot in training.training_plots(report.load_run(make_run("b", gold=False)), "ppo")}
    assert with_gold - without == {"training_ppo_gold"}


def test_every_stage_that_trains_has_its_curves_drawn(make_run):
    """Of a trainer that the panels do not know the loss is."""
    path = make_run()
    row = {"step": 1, "wall_s": 1.0, "loss": 0.5, "score": 0.5, "reward": 0.5}
    trained = [stage.name for stage in STAGES if stage.settings]
    for stage in trained:
        (path / "training" / f"{stage}.jsonl").write_text(json.dumps(row) + "\n")
    drawn = {name for name in report.figures(report.load_run(path)) if name.startswith("training_")}
    assert {name.removeprefix("training_").rpartition("_")[0] for name in drawn} == set(trained)


def test_why_log_probs_may_fall_is_said_behind_dpos_curves(make_run, reading):
    assert "may fall in DPO" in reading.texts(reading.sections(make_run())["Training"])
    without = reading.sections(make_run("b", arms=("sft",), gold=False))["Training"]
    assert "may fall in DPO" not in reading.texts(without)


def test_curves_are_the_mean_of_the_steps_around_with_the_log_faint_behind(make_run, reading):
    """40 steps: a window of 3."""
    path = make_run()
    values = report.load_run(path).training["reward"]["accuracy"].tolist()
    plot = next(plot for plot in training.training_plots(report.load_run(path), "reward") if "accuracy" in plot.name)
    smooth, raw = reading.axes(plot).lines
    around = [values[max(0, i - 1) : i + 2] for i in range(40)]
    assert list(smooth.get_ydata()) == pytest.approx([sum(near) / len(near) for near in around])
    assert list(raw.get_ydata()) == values and raw.get_alpha() < 0.5 and smooth.get_alpha() is None


def test_a_held_out_series_of_few_steps_stands_beside_as_it_is(make_run, reading):
    path = make_run()
    log = path / "training" / "reward.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows += [{"step": step, "eval_accuracy": 0.5 + step / 100} for step in (10, 20, 30)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plot = next(plot for plot in training.training_plots(report.load_run(path), "reward") if "accuracy" in plot.name)
    (held_out,) = (line for line in reading.axes(plot).lines if line.get_label() == "held-out pairs")
    assert list(held_out.get_xdata()) == [10, 20, 30] and list(held_out.get_ydata()) == [0.6, 0.7, 0.8]
    assert held_out.get_marker() == "o"


def test_series_have_no_arms_colour():
    colours = {series.colour for panels in training.PANELS.values() for panel in panels for series in panel.series}
    assert not colours & {arm.colour for arm in ARMS}
