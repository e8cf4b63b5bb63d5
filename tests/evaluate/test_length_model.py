"""The regression on length against plain and slow versions of the same formulas."""

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit

from bench.evaluate import length_model
from bench.evaluate.length_model import fit_length_model

Z = np.linspace(-9, 9, 1801)
DENSITY = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def world(arms, prompts, seed):
    """Points (one missing), x and g of arms that share prompts."""
    rng = np.random.default_rng(seed)
    x = np.tanh(rng.normal(0.4, 1, (arms, prompts)))
    g = np.tanh(rng.normal(size=prompts))
    z = rng.normal(size=prompts)
    logits = rng.normal(size=(arms, 1)) + x - 0.5 * g + 0.8 * z
    points = (rng.random((arms, prompts)) < expit(logits)).astype(float)
    points[0, :3] = 0.5
    points[-1, -1] = np.nan
    return points, x, g


def slow_log_likelihood(b, points, x, g):
    """Prompt by prompt: the integral over z of the product of the arms' Bernoulli likelihoods."""
    theta, phi, psi, lam = b
    total = 0.0
    for i in range(points.shape[1]):
        product = DENSITY.copy()
        for m in range(points.shape[0]):
            if not np.isnan(y := points[m, i]):
                p = expit(theta[m] + phi[m] * x[m, i] + psi[m] * g[i] + lam[m] * Z)
                product *= p**y * (1 - p) ** (1 - y)
        total += np.log(product.sum())
    return total


def slow_prior(b, spreads):
    """Each coefficient of an arm is a mean, normal with sd 2.5, plus a normal of the spread: jointly normal."""
    total = 0.0
    for row, spread in zip(b[1:], spreads, strict=True):
        covariance = np.full((len(row), len(row)), 2.5**2) + spread**2 * np.eye(len(row))
        total -= row @ np.linalg.solve(covariance, row) / 2
    return total


def derivatives(f, at, step=1e-4):
    """Gradient and Hessian by central differences."""
    n = at.size
    shifts = step * np.eye(n)
    gradient = np.array([(f(at + h) - f(at - h)) / (2 * step) for h in shifts])
    hessian = np.array(
        [
            [(f(at + h + k) - f(at + h - k) - f(at - h + k) + f(at - h - k)) / (4 * step**2) for k in shifts]
            for h in shifts
        ]
    )
    return gradient, hessian


@pytest.fixture(scope="module")
def joint():
    points, x, g = world(3, 60, seed=3)
    return points, x, g, fit_length_model(points, x, g)


def coefficients(fit):
    return np.array(fit.coefficients)


@pytest.mark.slow
def test_it_is_the_mode_of_the_likelihood_and_the_prior(joint):
    points, x, g, fit = joint
    shape = coefficients(fit).shape

    def objective(flat):
        b = flat.reshape(shape)
        return slow_log_likelihood(b, points, x, g) + slow_prior(b, fit.spreads)

    gradient, _ = derivatives(objective, coefficients(fit).ravel())
    assert np.abs(gradient).max() < 5e-3  # one step of Newton's from 1e-4 at curvatures up to 15


@pytest.mark.slow
def test_the_spreads_rest_where_an_em_step_does(joint):
    points, x, g, fit = joint
    b = coefficients(fit)

    def objective(flat):
        return slow_log_likelihood(flat.reshape(b.shape), points, x, g) + slow_prior(flat.reshape(b.shape), fit.spreads)

    _, hessian = derivatives(objective, b.ravel(), step=1e-3)
    covariance = np.linalg.inv(-hessian)
    assert fit.spreads[2] == 0.5
    for j, spread in enumerate(fit.spreads[:2], start=1):
        block = covariance[3 * j : 3 * j + 3, 3 * j : 3 * j + 3]
        # E of the sum of squares about the mean, (3 - 1) degrees of freedom, and one arm's worth of 0.5.
        squares = ((b[j] - b[j].mean()) ** 2).sum() + np.trace(block) - block.sum() / 3
        assert spread == pytest.approx(np.sqrt((0.5**2 + squares) / (1 + 3 - 1)), rel=2e-3)


def test_win_rates_are_averages_over_what_the_verdicts_say_of_each_prompt(joint):
    points, x, g, fit = joint
    theta, phi, psi, lam = coefficients(fit)
    for m in range(3):
        rates = []
        for i in range(points.shape[1]):
            if np.isnan(points[m, i]):
                continue
            posterior = DENSITY.copy()
            for k in range(3):
                if not np.isnan(y := points[k, i]):
                    p = expit(theta[k] + phi[k] * x[k, i] + psi[k] * g[i] + lam[k] * Z)
                    posterior *= p**y * (1 - p) ** (1 - y)
            rates.append(posterior @ expit(theta[m] + psi[m] * g[i] + lam[m] * Z) / posterior.sum())
        assert fit.win_rates[m] == pytest.approx(np.mean(rates), abs=1e-6)


def test_a_lone_arm_without_difficulty_is_a_ridge_regression_with_a_sandwich():
    points, x, _ = (a[:1] if a.ndim == 2 else a for a in world(1, 16, seed=5))
    points = np.where(np.isnan(points), 1.0, points)
    fit = fit_length_model(points, x, None)
    y, design = points[0], np.column_stack([np.ones(16), x[0]])
    # One arm: the mean's prior and the spread's add up. Nothing spreads, so the EM step has (0.5^2 + 0) / 1.
    precision = np.diag([0, 1 / (2.5**2 + 0.5**2)])

    def loss(b):
        eta = design @ b
        return (np.logaddexp(0, eta) - y * eta).sum() + b @ precision @ b / 2

    b = optimize.minimize(loss, np.zeros(2), tol=1e-12).x
    assert fit.win_rates[0] == pytest.approx(expit(b[0]), abs=1e-5)
    assert fit.length_effects[0] == pytest.approx(b[1], abs=1e-4)
    p = expit(design @ b)
    bread = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design + precision)
    meat = (design * ((y - p) ** 2)[:, None]).T @ design + precision
    assert fit.standard_errors[0] == pytest.approx(np.sqrt((bread @ meat @ bread)[0, 0]), rel=1e-3)


@pytest.mark.slow
def test_errors_are_those_of_the_estimator_when_prompts_are_drawn_again():
    """The delta method against a jackknife over prompts, which knows nothing of scores and Hessians."""
    points, x, g = world(3, 150, seed=8)
    fit = fit_length_model(points, x, g)
    n = points.shape[1]
    left_out = []
    for i in range(n):
        kept = np.arange(n) != i
        found = fit_length_model(points[:, kept], x[:, kept], g[kept]).win_rates
        left_out.append(np.log(found / (1 - found)))
    jackknife = np.sqrt((n - 1) * np.var(left_out, axis=0))
    # The prior's own part, which resampling of prompts does not see, is small here; the jackknife is rough itself.
    assert fit.standard_errors == pytest.approx(jackknife, rel=0.25)
    assert (fit.standard_errors > 0.9 * jackknife).all()


def test_prompts_are_added_up_part_by_part(monkeypatch):
    points, x, g = world(3, 100, 4)
    whole = fit_length_model(points, x, g)
    held = []
    monkeypatch.setattr(length_model, "PROMPTS_AT_ONCE", 30)
    init = length_model._Part.__init__
    monkeypatch.setattr(
        length_model._Part, "__init__", lambda part, *args: held.append(args[0].shape) or init(part, *args)
    )
    parts = fit_length_model(points, x, g)
    assert held == [(3, 30), (3, 30), (3, 30), (3, 10)]
    assert whole is not None and parts is not None
    for name in ("win_rates", "standard_errors", "coefficients", "spreads"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-9)
