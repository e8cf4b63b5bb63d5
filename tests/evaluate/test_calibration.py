"""Calibration of margins whose probabilities are known."""

import math

import numpy as np
import pytest

from bench.errors import DataError
from bench.evaluate.calibration import calibration, calibration_error


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_numbers_by_hand():
    """Ten pairs said with 82 %, of which 6 are right; ten with 62 %, of which 6 are right."""
    margins = [logit(0.82)] * 6 + [-logit(0.82)] * 4 + [logit(0.62)] * 6 + [-logit(0.62)] * 4
    found = calibration(margins, [0.0] * 20, seed=0, resamples=200)

    # (1 - P(chosen))^2: .18^2 and .82^2 for the right and wrong ones of the first ten, .38^2 and .62^2 for the others.
    assert found["brier"]["value"] == pytest.approx((6 * 0.0324 + 4 * 0.6724 + 6 * 0.1444 + 4 * 0.3844) / 20)
    assert found["overconfidence"]["value"] == pytest.approx(0.72 - 0.6)
    assert found["ece"]["binned"] == pytest.approx((10 * 0.22 + 10 * 0.02) / 20)
    # Less the noise, share (6 + 1) / (10 + 2), variance share (1 - share) / 10: more than .02^2, less than .22^2.
    assert found["ece"]["value"] == pytest.approx(0.5 * (0.22**2 - 7 / 12 * 5 / 12 / 10) ** 0.5)
    assert [(row["mean_confidence"], row["value"], row["n"]) for row in found["curve"]] == [
        (pytest.approx(0.62), 0.6, 10),
        (pytest.approx(0.82), 0.6, 10),
    ]
    assert found["curve"][1]["confidence"] == [pytest.approx(0.8), pytest.approx(0.85)]
    assert all(found[name]["n"] == 20 and found[name]["ci95"] for name in ("brier", "overconfidence", "ece"))


def test_the_sides_are_alike():
    """Which of the two is shown as chosen is the label's affair: a wrong pair is as confident as a right one."""
    ours = calibration([2.0, 0.0, 1.0], [0.0, 1.0, 0.0], seed=0, resamples=200)
    assert ours["curve"][0]["value"] == 0.5  # of the two margins of 1, one is wrong
    assert ours["curve"][1]["value"] == 1.0


def test_a_tie_is_half_right_and_says_one_half():
    found = calibration([1.0] * 4, [1.0] * 4, seed=0, resamples=200)
    assert found["brier"]["value"] == 0.25
    assert found["overconfidence"]["value"] == 0.0
    assert found["ece"]["binned"] == 0.0


def test_no_pairs_are_refused():
    with pytest.raises(DataError, match="no pairs were scored"):
        calibration_error(np.array([]), np.array([]), seed=0)


def draw(rng: np.random.Generator, n: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences sigma(m) of pairs that are right with sigma(slope m): 1 is calibrated, below 1 overconfident."""
    margins = np.abs(rng.normal(0, 1.5, n))
    confidence, truth = (1 / (1 + np.exp(-factor * margins)) for factor in (1, slope))
    return confidence, (rng.random(n) < truth).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize(("slope", "truth"), [(1.0, 0.0), (0.5, 0.096)])
def test_the_interval_covers(slope: float, truth: float):
    """100 draws of 250 pairs; the truth from 400,000 pairs, where the plain binned error has no bias left."""
    rng = np.random.default_rng(0)
    confidence, right = draw(rng, 400_000, slope)
    assert calibration_error(confidence, right, 0, resamples=2)[1] == pytest.approx(truth, abs=0.004)

    draws = [calibration_error(*draw(rng, 250, slope), 0, resamples=200) for _ in range(100)]
    assert sum(interval.low <= truth <= interval.high for interval, _ in draws) >= 88  # 95 but for chance (sd 2.2)
    # What is printed is nearer to the truth than the plain error, which 250 pairs put .06 above a calibrated one's 0.
    assert abs(np.mean([interval.value for interval, _ in draws]) - truth) < 0.035
    assert np.mean([binned for _, binned in draws]) > truth + 0.015


def test_pairs_of_one_post_count_together():
    """Twenty times the same five pairs of a post are no hundred: the interval is as wide as that of five."""
    rng = np.random.default_rng(1)
    confidence, right = draw(rng, 40, 0.5)
    alone, _ = calibration_error(confidence, right, 0)
    copied = (np.repeat(confidence, 20), np.repeat(right, 20))
    together, _ = calibration_error(*copied, 0, posts=[i // 20 for i in range(800)])
    apart, _ = calibration_error(*copied, 0)

    assert apart.high - apart.low < 0.6 * (together.high - together.low)
    assert together.high - together.low > 0.6 * (alone.high - alone.low)
