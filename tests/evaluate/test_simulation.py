"""A quick look at the simulated worlds; `python -m bench.evaluate.simulation` takes the thousand repetitions."""

import json

import numpy as np
import pytest
from scipy import stats

from bench.evaluate.simulation import __main__ as simulation
from bench.evaluate.simulation.calibration import Scorer, calibration_coverage
from bench.evaluate.simulation.clusters import accuracy_coverage, draw, false_leads
from bench.evaluate.simulation.decisions import (
    false_pairs,
    false_single,
    power_head_to_head,
    power_paired,
    power_unpaired,
)
from bench.evaluate.simulation.length import LengthWorld, length_control_coverage
from bench.evaluate.simulation.measures import distinct_coverage, headroom_coverage
from bench.evaluate.simulation.row import AT_MOST, COVERAGE, POWERED, Row, Study
from bench.evaluate.simulation.seeds import seed_coverage
from bench.evaluate.simulation.shares import difference_coverage, mean_coverage, win_rate_coverage
from bench.evaluate.simulation.strengths import strength_coverage
from bench.evaluate.simulation.tails import tail_coverage

pytestmark = pytest.mark.slow


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def agrees(share, promised, repetitions):
    """Whether a share this far out has a chance above 1 in 1,000 if the truth is within `promised`."""
    hits = round(share * repetitions)
    low, high = (stats.binom(repetitions, p) for p in promised)
    return bool(low.cdf(hits) > 0.001 and high.sf(hits - 1) > 0.001)


def test_a_share_outside_its_promise_is_not_ok():
    assert Row("x", "y", 0.93, COVERAGE, 1000).ok and Row("x", "y", 0.97, COVERAGE, 1000).ok
    assert not Row("x", "y", 0.929, COVERAGE, 1000).ok and not Row("x", "y", 0.971, COVERAGE, 1000).ok
    assert Row("x", "y", 0.05, AT_MOST, 1000).ok and not Row("x", "y", 0.051, AT_MOST, 1000).ok
    assert agrees(0.94, COVERAGE, 1000) and not agrees(0.89, COVERAGE, 1000)


@pytest.mark.parametrize(("n", "rate", "ties"), [(64, 0.5, 0.15), (256, 0.7, 0.0), (256, 0.9, 0.15)])
def test_win_rates(rng, n, rate, ties):
    assert agrees(win_rate_coverage(n, rate, ties, 5000, rng), COVERAGE, 5000)


def test_means_and_differences(rng):
    assert agrees(mean_coverage(lambda rng, n: rng.beta(2, 6, n), 0.25, 128, 100, rng), COVERAGE, 100)
    assert agrees(difference_coverage(64, 300, rng), COVERAGE, 300)


def test_equal_arms_are_called_different_in_one_run_of_twenty_at_most(rng):
    """Six pairs on four prompts: each is all one way in 1 of 8 cases, some pair in 55 % if they were independent."""
    decided, by_interval = false_pairs(4, 4, 0.0, 400, rng)
    assert decided == 0.0  # 2 / 2^4 is above 0.05 even alone
    assert 0.3 < by_interval < 0.6
    decided, by_interval = false_pairs(4, 48, 0.1, 200, rng)
    assert agrees(decided, AT_MOST, 200) and by_interval > 0.1


@pytest.mark.parametrize("share", [0.5, 0.45])
def test_a_question_of_its_own(rng, share):
    assert false_single(48, share, 0.2, 5000, rng) <= 0.05


def test_length_control(rng):
    even = LengthWorld(likings=(1.5,))
    controlled, raw = length_control_coverage(even, 256, 100, rng)
    assert agrees(controlled, COVERAGE, 100)
    assert raw < 0.1
    (rows,) = even.judged(20_000, rng).values()
    assert np.mean([row.points for row in rows.values()]) > 0.6
    assert np.median([row.length for row in rows.values()]) == pytest.approx(37, abs=1)


def test_the_truth_of_a_world_of_lengths_is_what_its_arms_win_without_a_liking_for_length(rng):
    world = LengthWorld((0.8, -1.0), (0.0, 0.0), (36.0, 20.0), difficulty=1.5, ties=0.2)
    for rows, truth in zip(world.judged(100_000, rng).values(), world.truths, strict=True):
        assert np.mean([row.points for row in rows.values()]) == pytest.approx(truth, abs=0.006)  # 4 standard errors


def test_strengths(rng):
    for share in strength_coverage({"base": -4.0, "dpo": 1.0, "reference": 0.0}, 48, 80, rng).values():
        assert agrees(share, COVERAGE, 80)


def test_pairs_of_one_post(rng):
    scores, posts = draw(500, (8, 20), 0.7, 0.2, rng)
    of_post = [np.mean([s for s, p in zip(scores, posts, strict=True) if p == post]) for post in range(500)]
    # Within 8 to 20 pairs of rate q: var(q) = 0.2 x 0.21, and q (1 - q) / m of chance.
    assert np.mean(scores) == pytest.approx(0.7, abs=0.03)
    assert np.var(of_post) == pytest.approx(0.2 * 0.21 + 0.8 * 0.21 / 13, rel=0.2)
    by_post, by_pair = accuracy_coverage(30, (8, 20), 0.65, 200, rng)
    assert agrees(by_post, COVERAGE, 200) and by_pair < 0.8
    assert agrees(false_leads(30, (8, 20), 150, rng), AT_MOST, 150)


def test_calibration(rng):
    fair, sure = Scorer(1.0), Scorer(0.6)
    assert fair.truths["ECE"] == pytest.approx(0, abs=1e-9) and fair.truths["overconfidence"] == pytest.approx(0)
    confidence, right, _ = sure.judged(200_000, 1, rng)
    assert (confidence - right).mean() == pytest.approx(sure.truths["overconfidence"], abs=0.004)
    assert sure.truths["ECE"] == pytest.approx(sure.truths["overconfidence"], abs=1e-3)  # too sure in every bin
    found = calibration_coverage(sure, 100, 1, 100, rng)
    assert agrees(found["ECE"], (0.92, 1.0), 100)
    assert agrees(found["overconfidence"], COVERAGE, 100) and agrees(found["Brier score"], COVERAGE, 100)


def test_measures_with_intervals_of_their_own_kind(rng):
    assert agrees(distinct_coverage(48, 1, 60, rng), (0.93, 1.0), 60)
    assert agrees(headroom_coverage(48, 100, rng), COVERAGE, 100)


def test_tails(rng):
    calm = tail_coverage(lambda rng, n: rng.gamma(1.5, 2.0, n), 3.0, 2.36597, 256, 300, rng)
    assert agrees(calm["covers"], COVERAGE, 300) and calm["limit"] == 0 and agrees(calm["median"], COVERAGE, 300)
    wild = tail_coverage(lambda rng, n: np.where(rng.random(n) < 0.02, 50.0, 1.0), 1.98, 1.0, 48, 300, rng)
    assert wild["covers"] < 0.8 and wild["or says so"] == wild["limit"] == 1


def test_seeds_and_prompts(rng):
    for share in seed_coverage(5, 64, 0.5, 0.4, 1.5, 150, rng):
        assert agrees(share, COVERAGE, 150)


def test_power(rng):
    assert agrees(power_head_to_head(0.6, 0.0, 1000, rng), POWERED, 1000)
    assert agrees(power_paired(0.25, 0.15, 5000, rng), POWERED, 5000)
    assert agrees(power_unpaired(146 / 256, 158 / 256, 5000, rng), POWERED, 5000)


def test_the_report_goes_on_where_it_stopped(monkeypatch, tmp_path, capsys):
    measured = []

    def study(name, share):
        def measure(repetitions, rng):
            measured.append(name)
            return [Row(f"{name} covers", "n 64", share, COVERAGE, repetitions, "none")]

        return Study(name, measure)

    out = tmp_path / "simulation.json"
    arguments = ["--repetitions", "100", "--out", str(out)]
    monkeypatch.setattr(simulation, "STUDIES", (study("good", 0.95),))
    assert simulation.main(arguments) == 0
    monkeypatch.setattr(simulation, "STUDIES", (study("good", 0.95), study("bad", 0.2)))
    assert simulation.main(arguments) == 1
    assert measured == ["good", "bad"]
    assert simulation.main([*arguments, "--seed", "1"]) == 1
    assert measured == ["good", "bad", "good", "bad"]
    printed = capsys.readouterr().out.splitlines()
    assert "95.0%" in printed[0] and " ok " in printed[0] and "NOT AS PROMISED" in printed[2]
    studies = json.loads(out.read_text())["studies"]
    assert [studies[name]["rows"][0]["ok"] for name in ("good", "bad")] == [True, False]
    table = out.with_suffix(".md").read_text().splitlines()
    assert table[2] == "| good covers | n 64 | 95.0% | 93.0% to 97.0% | ok | none |"
    assert "not as promised" in table[3]


def test_every_study_has_a_name_of_its_own():
    names = [study.name for study in simulation.STUDIES]
    assert len(set(names)) == len(names)
    assert any("README" in name for name in names)  # its completions are in the tree
