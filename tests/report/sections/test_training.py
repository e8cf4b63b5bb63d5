"""The curves of the training logs."""

import json

from bench import report
from bench.arms import STAGES
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
