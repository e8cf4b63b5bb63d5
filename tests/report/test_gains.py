"""Over-optimisation over several runs: each policy is a point, each training a line, and the fits are of the points."""

import numpy as np
import pytest

from bench import report
from bench.evaluate.overoptimisation import fit_over_points
from bench.report.gains import over_policies, section
from bench.report.load import records
from bench.report.page import Figures, Table

ARMS = ("sft", "best_of_n", "dpo")
BETAS = (0.01, 0.05, 0.3, 2.0)


@pytest.fixture
def runs(make_run):
    """DPO at four betas, the last of which was watched."""
    return [
        report.load_run(make_run(f"b{beta}", arms=ARMS, dpo_beta=beta, points=5 if beta == BETAS[-1] else 0))
        for beta in BETAS
    ]


def test_policies_are_fitted_by_their_means(runs, reading):
    points = records(report.policy_points(runs))
    of_dpo = [row for row in points if row["arm"] == "dpo"]
    measured = [run.metrics["arms"]["dpo"] for run in runs]
    kl = np.array([arm["kl_ref"]["value"] for arm in measured])
    gain = np.array([arm["gain"]["gold"]["value"] for arm in measured])
    for arm, run in zip(measured, runs, strict=True):
        over_sft = arm["reward"]["gold"]["value"] - run.metrics["arms"]["sft"]["reward"]["gold"]["value"]
        assert arm["gain"]["gold"]["value"] == pytest.approx(over_sft)

    assert over_policies(of_dpo)["gold"] == fit_over_points("rl", kl, gain)
    blocks = section(runs, points)
    (figures,) = (block for block in blocks if isinstance(block, Figures))
    gold, _, on_the_way, _ = figures.plots
    assert sorted(reading.drawn(reading.axes(gold), "DPO").lines[0].get_xdata()) == pytest.approx(sorted(kl**0.5))
    (line,) = (c for c in reading.axes(on_the_way).containers if c.get_label() == "DPO")
    assert len(line.lines[0].get_xdata()) == 6  # of the one that was watched
    (table,) = (block for block in blocks if isinstance(block, Table))
    # The best of n is one policy of all runs.
    assert [(row[0].text, row[1].text, row[2].text) for row in table.rows] == [
        ("DPO", "gold", "4"),
        ("DPO", "proxy", "4"),
        ("Best of n", "gold", "4"),
        ("Best of n", "proxy", "4"),
    ]


def test_few_policies_that_were_not_watched_have_no_section(runs):
    points = records(report.policy_points(runs[:3]))
    assert section(runs[:3], points) == []
    # Many of one beta are no range either.
    assert section(runs[:3], [*points, *({**row, "seed": 1, "beta": 1.0} for row in points)]) != []
    assert section(runs[:3], [{**row, "beta": 1.0} for row in (*points, *points)]) == []
