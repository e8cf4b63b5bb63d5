"""Over-optimisation: what a policy's distance from the SFT model buys, and the forms that are fitted to it.

With d = sqrt(KL(policy || SFT model)), KL in nats per completion, and R(d) the mean reward less the SFT model's
(Gao et al. 2022, arXiv 2210.10760):
  rl          R(d) = d (alpha - beta log d)   PPO, RLOO, and DPO too (Rafailov et al. 2024, arXiv 2406.02900)
  best_of_n   R(d) = d (alpha - beta d)
alpha is what is gained at first (of rl: at d = 1), beta how fast that is lost; beta is no trainer's beta. Both forms
are linear in alpha and beta: plain least squares without an intercept, every point alike. The reward turns where its
slope is 0: at d = exp(alpha / beta - 1) and at d = alpha / (2 beta), if beta is above 0.

Points along one training, or of every n from one set of samples, are of the same prompts: intervals are percentiles of
a bootstrap over prompts, which moves all distances and rewards together. Points of policies that were trained apart
carry what differs from training to training: their interval is Student's t of the regression over points.
"""

import math
from typing import Any, Literal

import numpy as np

from bench.evaluate.statistics import ALPHA, RESAMPLES

Form = Literal["rl", "best_of_n"]
MIN_POINTS = 4
"""Two parameters, and two points more."""
MIN_SPAN = 2.0
"""The largest distance over the smallest: below, alpha and beta can hardly be told apart."""
MIN_KL = 1e-3
"""Nats: a policy that is nearer is the SFT model but for rounding, and says nothing of either form."""


def reward_at(form: Form, d: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """R(d), for distances (..., P) and [alpha, beta] (..., 2)."""
    return (_terms(form, d) * coefficients[..., None, :]).sum(-1)


def fit_over_prompts(
    form: Form, kl: np.ndarray, gain: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """The form fitted to points of the same prompts.

    Args:
        kl: (points, prompts) nats along each sample.
        gain: (points, prompts) reward less the SFT model's on that prompt.

    Returns:
        As `fit_over_points`, with prompts as "n" and "over" "prompts".
    """
    there = kl.mean(1) > MIN_KL
    kl, gain, n = kl[there], gain[there], kl.shape[1]
    d = np.sqrt(kl.mean(1))
    if reason := _refused(d):
        return _empty(form, d, n, "prompts", reason)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n
    distances = np.sqrt(np.maximum(weights @ kl.T, MIN_KL))
    draws = _solve(form, distances, weights @ gain.T)
    return _found(form, _solve(form, d, gain.mean(1)), draws, d, n, "prompts")


def fit_over_points(
    form: Form, kl: np.ndarray, gain: np.ndarray, seed: int = 0, resamples: int = 10_000
) -> dict[str, Any]:
    """The form fitted to independent policies: KL (P,) in nats and mean gain (P,).

    Returns:
        "form"; "alpha", "beta" and "peak_kl", the KL in nats at which the form turns: {"value", "ci95", "n"}, where the
        last has no value if beta is not above 0 and no interval if not all of beta's is; "distances", the smallest and
        the largest that were fitted; "points"; "over", what "n" counts; "reason": None, or why nothing was fitted.
    """
    there = kl > MIN_KL
    d, gain = np.sqrt(kl[there]), gain[there]
    if reason := _refused(d):
        return _empty(form, d, d.size, "points", reason)
    terms, found = _terms(form, d), _solve(form, d, gain)
    freedom = d.size - 2
    variance = ((gain - terms @ found) ** 2).sum() / freedom
    rng = np.random.default_rng(seed)
    # Multivariate t around the estimate: each coefficient's percentiles are the ends of its Student's t interval.
    normal = rng.multivariate_normal(np.zeros(2), variance * np.linalg.inv(terms.T @ terms), resamples)
    draws = found + normal / np.sqrt(rng.chisquare(freedom, resamples) / freedom)[:, None]
    return _found(form, found, draws, d, d.size, "points")


def _terms(form: Form, d: np.ndarray) -> np.ndarray:
    """(..., P, 2): what alpha and beta are multiplied by."""
    return np.stack([d, -d * (np.log(d) if form == "rl" else d)], -1)


def _solve(form: Form, d: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """[alpha, beta] (..., 2) by least squares, of distances and gains (..., P)."""
    terms = _terms(form, d)
    normal = np.swapaxes(terms, -1, -2) @ terms
    return np.linalg.solve(normal, np.swapaxes(terms, -1, -2) @ gain[..., None])[..., 0]


def _peak(form: Form, coefficients: np.ndarray) -> np.ndarray:
    """KL at which the form turns (...,); infinite where it does not."""
    alpha, beta = np.moveaxis(coefficients, -1, 0)
    turns = beta > 0
    ratio = alpha / np.where(turns, beta, 1.0)
    root = np.exp(np.minimum(ratio - 1, 350)) if form == "rl" else np.maximum(ratio, 0) / 2
    return np.where(turns, root**2, math.inf)


def _refused(d: np.ndarray) -> str | None:
    if d.size < MIN_POINTS:
        return f"{d.size} points away from the SFT model; a fit needs {MIN_POINTS}"
    if d.max() < MIN_SPAN * d.min():
        return (
            f"all points are at much the same KL ({d.min() ** 2:.2g} to {d.max() ** 2:.2g} nats); a fit needs distances"
            f" that differ by a factor of {MIN_SPAN:g}"
        )
    return None


def _found(form: Form, coefficients: np.ndarray, draws: np.ndarray, d: np.ndarray, n: int, over: str) -> dict[str, Any]:
    ends = np.quantile(draws, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    alpha, beta = (
        {"value": float(coefficients[i]), "ci95": [float(ends[0, i]), float(ends[1, i])], "n": n} for i in (0, 1)
    )
    return _about(form, d, over) | {
        "alpha": alpha,
        "beta": beta,
        "peak_kl": _peak_estimate(form, coefficients, draws, n),
        "reason": None,
    }


def _peak_estimate(form: Form, coefficients: np.ndarray, draws: np.ndarray, n: int) -> dict[str, Any]:
    value = float(_peak(form, coefficients))
    if math.isinf(value):
        return {"value": None, "ci95": None, "n": n, "reason": "the fitted reward does not turn"}
    low, high = np.quantile(_peak(form, draws), [ALPHA / 2, 1 - ALPHA / 2], method="inverted_cdf")
    if math.isinf(high):
        return {"value": value, "ci95": None, "n": n, "reason": "whether it turns is not decided at this n"}
    return {"value": value, "ci95": [float(low), float(high)], "n": n}


def _empty(form: Form, d: np.ndarray, n: int, over: str, reason: str) -> dict[str, Any]:
    none = {"value": None, "ci95": None, "n": n, "reason": reason}
    return _about(form, d, over) | {"alpha": none, "beta": none, "peak_kl": none, "reason": reason}


def _about(form: Form, d: np.ndarray, over: str) -> dict[str, Any]:
    distances = [float(d.min()), float(d.max())] if d.size else None
    return {"form": form, "distances": distances, "points": int(d.size), "over": over}
