"""Temperatures and sets beside the headline: what the table and the figure draw is what metrics.json holds."""

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from bench import report
from bench.data.evaluation_sets import EvalSetConfig
from bench.report.load import records
from bench.report.sections import grid


@pytest.fixture(scope="module")
def gridded(tmp_path_factory, write_run):
    folder = tmp_path_factory.mktemp("grid") / "run"
    sets = {"validation": EvalSetConfig(split="validation", prompts=20)}
    return report.load_run(write_run(folder, temperatures=(0.0, 1.0), sets=sets))


def test_a_run_of_one_cell_has_no_section(make_run):
    run = report.load_run(make_run())
    assert grid.section(run) == [] and grid.grid_table(run).empty


def test_every_cell_is_in_the_table_the_headline_in_its_place(gridded):
    rows = records(grid.grid_table(gridded))
    where = list(dict.fromkeys((row["set"], row["temperature"], row["n_prompts"]) for row in rows))
    assert where == [
        *(("test", t, 40) for t in (0.0, 0.7, 1.0)),
        *(("validation", t, 20) for t in (0.0, 0.7, 1.0)),
    ]
    metrics = gridded.metrics
    for row in rows:
        cell = next(
            (c for c in metrics["grid"] if (c["set"], c["temperature"]) == (row["set"], row["temperature"])), metrics
        )
        if row["arm"] != "reference":
            expected = cell["arms"][row["arm"]]["win_rate"]["gold"]
            assert (row["win_rate_gold"], row["win_rate_gold_n"]) == (expected["value"], expected["n"])


def test_duels_of_every_cell(gridded):
    rows = records(grid.grid_duels(gridded))
    of_cell = [row for row in rows if (row["set"], row["temperature"]) == ("validation", 1.0)]
    assert len(rows) == 6 * len(of_cell)
    (cell,) = (c for c in gridded.metrics["grid"] if (c["set"], c["temperature"]) == ("validation", 1.0))
    (row,) = (r for r in of_cell if (r["arm_a"], r["arm_b"], r["judge"]) == ("dpo", "ppo", "gold"))
    assert row["win_rate"] == cell["head_to_head"]["dpo_vs_ppo"]["win_rate"]["gold"]["value"]


def test_the_figure_draws_each_arm_over_the_temperatures(gridded):
    plot = grid.win_rate_vs_temperature(gridded, "test", "gold")
    assert plot is not None
    bars = [c for c in plot.figure.axes[0].containers if isinstance(c, ErrorbarContainer)]
    lines = {str(bar.get_label()): bar.lines[0] for bar in bars}
    table = {
        (r["arm"], r["temperature"]): r["win_rate_gold"]
        for r in records(grid.grid_table(gridded))
        if r["set"] == "test"
    }
    assert list(np.asarray(lines["DPO"].get_ydata())) == pytest.approx([100 * table["dpo", t] for t in (0.0, 0.7, 1.0)])
    assert list(np.asarray(lines["DPO"].get_xdata())) == pytest.approx([0.0, 0.7, 1.0], abs=0.05)
    assert grid.win_rate_vs_temperature(gridded, "nowhere", "gold") is None


def test_the_section_says_it(gridded):
    names = {plot.name for block in grid.section(gridded) for plot in getattr(block, "plots", [])}
    assert {"win_rate_vs_temperature_test_gold", "win_rate_vs_temperature_validation_gold"} <= names
