"""The forms of Gao et al. 2022, fitted to data that were drawn from them."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.evaluate.overoptimisation import Form, fit_over_points, fit_over_prompts, reward_at

FORMS: tuple[Form, ...] = ("rl", "best_of_n")
D = np.array([0.3, 0.6, 1.0, 1.5, 2.2, 3.0])


def test_the_forms_by_hand():
    """At d = 2 with alpha 3 and beta 1: 2 (3 - log 2) and 2 (3 - 2)."""
    coefficients = np.array([3.0, 1.0])

    assert reward_at("rl", np.array([2.0]), coefficients) == pytest.approx([2 * (3 - math.log(2))])
    assert reward_at("best_of_n", np.array([2.0]), coefficients) == pytest.approx([2.0])


@pytest.mark.parametrize(
    ("form", "peak"), [("rl", math.exp(2 * (1.5 / 1.2 - 1))), ("best_of_n", (1.5 / (2 * 1.2)) ** 2)]
)
def test_points_on_the_curve_give_its_parameters_and_its_peak(form: Form, peak: float):
    gain = reward_at(form, D, np.array([1.5, 1.2]))
    # No reward near the peak is above the reward there.
    near = np.sqrt(peak) * np.array([0.98, 1.0, 1.02])
    assert reward_at(form, near, np.array([1.5, 1.2])).argmax() == 1

    for found in (fit_over_points(form, D**2, gain), fit_over_prompts(form, _spread(D**2), _spread(gain), seed=0)):
        assert found["reason"] is None and found["points"] == len(D)
        assert found["alpha"]["value"] == pytest.approx(1.5)
        assert found["beta"]["value"] == pytest.approx(1.2)
        assert found["peak_kl"]["value"] == pytest.approx(peak)
        assert found["distances"] == pytest.approx([0.3, 3.0])


def _spread(means: np.ndarray) -> np.ndarray:
    """(points, 4 prompts) with these means."""
    return means[:, None] * np.array([0.5, 1.5, 0.8, 1.2])


def test_least_squares_by_a_search():
    """The fitted sum of squares is below that of every neighbour."""
    gain = np.array([0.2, 0.5, 0.4, 0.6, 0.1, -0.4])
    found = fit_over_points("rl", D**2, gain)
    best = np.array([found["alpha"]["value"], found["beta"]["value"]])

    def loss(at: np.ndarray) -> float:
        return float(((gain - reward_at("rl", D, at)) ** 2).sum())

    assert all(loss(best) < loss(best + np.array(step)) for step in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)))


def test_students_t_over_points():
    """Standard errors of the normal equations, and its quantile at 6 - 2 degrees of freedom."""
    gain = np.array([0.2, 0.5, 0.4, 0.6, 0.1, -0.4])
    found = fit_over_points("best_of_n", D**2, gain, resamples=200_000)
    terms = np.array([[d, -d * d] for d in D])
    coefficients, residual, *_ = np.linalg.lstsq(terms, gain, rcond=None)
    errors = np.sqrt(np.diag(residual[0] / 4 * np.linalg.inv(terms.T @ terms)))
    half = stats.t.isf(0.025, 4) * errors

    for name, value, wide in zip(("alpha", "beta"), coefficients, half, strict=True):
        assert found[name]["ci95"] == pytest.approx([value - wide, value + wide], rel=0.03)
        assert found[name]["n"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_both_intervals_cover(form: Form):
    """Over 200 worlds of 64 prompts, and of 8 policies: within 3 binomial standard errors, below a little more."""
    rng, truth = np.random.default_rng(7), np.array([1.0, 0.4])
    inside = {"prompts": np.zeros(2), "points": np.zeros(2)}
    distances = np.linspace(0.4, 2.5, 8)
    worlds = 200
    for seed in range(worlds):
        own = rng.normal(0, 0.6, 64)  # what a prompt adds at every point
        kl = D[:, None] ** 2 * rng.gamma(8, 1 / 8, (len(D), 64))
        gain = reward_at(form, D, truth)[:, None] + own + rng.normal(0, 0.8, (len(D), 64))
        noisy = reward_at(form, distances, truth) + rng.normal(0, 0.2, 8)
        for found in (
            fit_over_prompts(form, kl, gain, seed, resamples=400),
            fit_over_points(form, distances**2, noisy, seed, resamples=1000),
        ):
            ends = [found[name]["ci95"] for name in ("alpha", "beta")]
            inside[found["over"]] += [low <= true <= high for (low, high), true in zip(ends, truth, strict=True)]

    for over, count in inside.items():
        assert np.all(count / worlds > 0.95 - 0.046 - 0.012), (over, count / worlds)
        assert np.all(count / worlds < 0.95 + 0.046), (over, count / worlds)


def test_what_cannot_be_fitted_says_why():
    few = fit_over_points("rl", np.array([0.0, 1e-5, 1.0, 2.0, 9.0]), np.ones(5))  # two are the SFT model
    assert few["reason"] == "3 points away from the SFT model; a fit needs 4"
    assert few["alpha"]["value"] is None and few["alpha"]["reason"] == few["reason"]
    alike = fit_over_prompts("rl", np.full((5, 3), [[1.0]]) * np.linspace(1, 3.9, 5)[:, None], np.ones((5, 3)), seed=0)
    assert alike["reason"] is not None and alike["reason"].startswith("all points are at much the same KL (1 to 3.9")
    none = fit_over_points("rl", np.zeros(4), np.zeros(4))
    assert none["distances"] is None and none["points"] == 0


def test_a_reward_that_goes_on_rising_has_no_peak():
    rising = fit_over_points("rl", D**2, D + 0.3 * D * np.log(D))
    assert rising["beta"]["value"] == pytest.approx(-0.3)
    assert rising["peak_kl"] == {"value": None, "ci95": None, "n": 6, "reason": "the fitted reward does not turn"}
    noise = np.array([1, -1, 1, -1, 1, -1]) * 0.5
    open_ended = fit_over_points("rl", D**2, D - 0.05 * D * np.log(D) + noise)
    assert open_ended["peak_kl"]["ci95"] is None
