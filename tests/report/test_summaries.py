"""Measures of the summaries and the calibration of reward models, as a report shows them."""

from pathlib import Path
from typing import Any

import numpy as np

from bench.report.load import Run
from bench.report.page import Figures, Table
from bench.report.sections import cost, reward_model, summaries


def estimate(value: float, n: int = 60) -> dict[str, Any]:
    return {"value": value, "ci95": [value - 0.1, value + 0.1], "n": n}


def run(**metrics: Any) -> Run:
    return Run(Path("run"), {}, {"arms": {}, **metrics})


def table(blocks: list[Any], caption: str) -> Table:
    return next(block for block in blocks if isinstance(block, Table) and block.caption.startswith(caption))


def test_a_measure_is_a_row_by_its_own_words():
    words = {
        "coverage": {"title": "extractive coverage", "unit": "share", "note": "in runs"},
        "density": {"title": "extractive density", "unit": "number", "note": ""},
    }
    arms = {
        arm: {"length_tokens": estimate(20.0), "summaries": {"coverage": estimate(0.5, n), "density": estimate(1.5, n)}}
        for arm, n in (("dpo", 60), ("reference", 57))
    }
    found = table(summaries.section(run(arms=arms, summary_metrics=words)), "Of the summaries")

    assert found.columns == ["measure", "DPO", "Reference"]
    assert [[(cell.text, cell.interval) for cell in row] for row in found.rows] == [
        [("extractive coverage", "in runs"), ("50.0 %", "[40.0, 60.0]"), ("50.0 %", "[40.0, 60.0] n 57")],
        [("extractive density", ""), ("1.50", "[1.40, 1.60]"), ("1.50", "[1.40, 1.60] n 57")],
    ]


def test_a_run_without_measures_has_no_section():
    assert summaries.section(run(arms={"dpo": {}})) == []


def test_calibration_is_a_table_and_a_curve():
    curve = [
        {"confidence": [0.5, 0.55], "mean_confidence": 0.52, **estimate(0.5)},
        {"confidence": [0.8, 0.85], "mean_confidence": 0.83, **estimate(0.7)},
    ]
    found = {"brier": estimate(0.2), "ece": estimate(0.07), "overconfidence": estimate(0.1), "curve": curve}
    blocks = reward_model.section(run(reward_model={"accuracy": estimate(0.6), "calibration": found}))

    row = [cell.text for cell in table(blocks, "Whether a reward model").rows[0]]
    assert row == ["Reward model (PPO trains against it)", "10.0", "7.0 %", "0.200", "60"]
    (plot,) = next(block for block in blocks if isinstance(block, Figures)).plots
    assert "52 % 50.0 % [40.0, 60.0], 83 % 70.0 % [60.0, 80.0]" in plot.alt
    lines = (plot.figure.axes[0].lines[i] for i in (0, -1))
    points, diagonal = (np.asarray(line.get_xydata()).tolist() for line in lines)
    assert points == [[52.0, 50.0], [83.0, 70.0]] and diagonal == [[50.0, 50.0], [100.0, 100.0]]


def test_a_stage_beside_other_work_is_marked():
    stage = {"wall_s": 91.7, "cpu_s": 30.0, "other_load": 0.5, "device_hours": 0.025}
    blocks = cost.section(run(arms={"dpo": {}}, cost={"stages": {"dpo": stage, "ppo": stage}, "busy": ["dpo"]}))

    assert any("Measured on a busy machine: dpo." in getattr(block, "text", "") for block in blocks)
    costs = table(blocks, "Cost of each stage")
    shown = dict(zip(costs.columns, [cell.text for cell in costs.rows[0]], strict=True))
    assert (shown["CPU time (s)"], shown["processors taken by others"]) == ("30.0", "50.0 %")
    assert not any(
        "busy" in getattr(block, "text", "")
        for block in cost.section(run(arms={"dpo": {}}, cost={"stages": {"dpo": stage}}))
    )
