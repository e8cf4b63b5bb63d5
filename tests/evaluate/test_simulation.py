"""A quick look at the simulated worlds; `python -m bench.evaluate.simulation` takes the thousand repetitions."""

import json

import numpy as np
import pytest
from scipy import stats

from bench.evaluate import simulation
from bench.evaluate.simulation import (
    COVERAGE,
    MEANS,
    POWERED,
    STRENGTHS,
    LengthWorld,
    Row,
    length_control_coverage,
    mean_coverage,
    power_head_to_head,
    power_paired,
    power_unpaired,
    strength_coverage,
    win_rate_coverage,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def agrees(share, promised, repetitions):
    """Whether a share this far out has a chance above 1 in 1,000 if the truth is within `promised`."""
    hits = round(share * repetitions)
    low, high = (stats.binom(repetitions, p) for p in promised)
    return bool(low.cdf(hits) > 0.001 and high.sf(hits - 1) > 0.001)


def test_a_share_far_from_its_promise_disagrees():
    assert agrees(0.94, COVERAGE, 1000)
    assert not agrees(0.90, COVERAGE, 1000) and not agrees(0.99, COVERAGE, 1000)
    assert Row("x", "y", 0.93, COVERAGE, 1000).ok and not Row("x", "y", 0.90, COVERAGE, 1000).ok
    assert not Row("x", "y", 0.87, POWERED, 1000).ok
    assert Row("x", "y", 0.85, POWERED, 20).ok  # so few tell nothing


@pytest.mark.parametrize(("n", "rate", "ties"), [(64, 0.5, 0.15), (256, 0.7, 0.0), (256, 0.9, 0.15)])
def test_win_rates(rng, n, rate, ties):
    assert agrees(win_rate_coverage(n, rate, ties, 5000, rng), COVERAGE, 5000)


def test_bootstrapped_means(rng):
    _, draw, mean = MEANS[0]
    assert draw(rng, 200_000).mean() == pytest.approx(mean, abs=0.002)
    assert agrees(mean_coverage(draw, mean, 128, 150, rng), COVERAGE, 150)


def test_length_control(rng):
    even = LengthWorld(quality=0.0, liking=1.5)
    controlled, raw = length_control_coverage(even, 256, 200, rng)
    assert agrees(controlled, COVERAGE, 200)
    assert raw < 0.1
    points, differences = even.judged(20_000, rng)
    assert np.mean(points) > 0.6 and np.mean(differences) == pytest.approx(6, abs=0.3)


def test_strengths(rng):
    for share in strength_coverage(STRENGTHS, 128, 60, rng, resamples=200).values():
        assert agrees(share, COVERAGE, 60)


def test_power(rng):
    assert agrees(power_head_to_head(0.6, 0.0, 5000, rng), POWERED, 5000)
    assert agrees(power_head_to_head(0.57, 0.4, 5000, rng), POWERED, 5000)
    assert agrees(power_paired(0.25, 0.15, 400, rng), POWERED, 400)
    assert agrees(power_unpaired(146 / 256, 158 / 256, 5000, rng), POWERED, 5000)


def test_the_report(monkeypatch, tmp_path, capsys):
    rows = [Row("win rate covers", "n 64", 0.95, COVERAGE, 100), Row("power", "true 60%", 0.2, POWERED, 100)]
    monkeypatch.setattr(simulation, "rows", lambda repetitions, seed: iter(rows))
    out = tmp_path / "simulation.json"
    assert simulation.main(["--repetitions", "100", "--out", str(out)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("ok") and printed[1].endswith("NOT AS PROMISED") and "95.0%" in printed[0]
    assert [row["ok"] for row in json.loads(out.read_text())["rows"]] == [True, False]


def test_every_world_is_in_the_report():
    found = list(simulation.rows(repetitions=2, seed=0))
    assert len(found) == 18 + 3 + 4 + 2 + 4 + 5
    assert {row.promised for row in found} == {COVERAGE, POWERED, (0.0, 0.05)}
