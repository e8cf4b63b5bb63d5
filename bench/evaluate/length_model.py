"""A logistic model of verdicts on several arms at once, and each arm's win rate in it at equal length.

    logit P(arm m beats its opponent on prompt i) = theta_m + phi_m x_mi + psi_m g_i + lambda_m z_i,   z_i ~ N(0, 1)

theta_m is the arm's quality, x_mi the length difference (bounded, 0 at equal length), g_i the opponent's length
(bounded) and z_i the rest of the prompt's difficulty, which no one has seen: it is what the arms' verdicts on one
prompt have in common. Prompts on which the opponent writes little are easy and leave little to write, so that length
would be paid for difficulty without g and z. A lone arm has nothing in common with another: it is fitted without z.

phi_m, psi_m and lambda_m are drawn from one normal distribution over the arms each: an arm whose own data say little
about length takes the others' coefficient, one whose data say much keeps its own. How far phi and psi spread over the
arms is estimated from the verdicts (empirical Bayes). theta_m is not penalised, so that each arm's mean prediction at
the lengths seen is its raw win rate, and what the model adds is the difference that equal length makes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

PRIOR_SD = 2.5
"""Of the mean over arms of phi, psi and lambda: the width of the weakly informative prior of Gelman et al. (2008,
Annals of Applied Statistics 2:1360) for inputs on this scale. A few dozen verdicts outweigh it."""
PRIOR_SPREAD = 0.5
"""First guess of the arms' sd about that mean, in log-odds; it counts as much as one arm."""
NODES = np.linspace(-5.0, 5.0, 31)
"""Values of z over which its normal density is summed: exact to 1e-6 down to a posterior sd of 0.2."""
_LOG_WEIGHTS = -(NODES**2) / 2 - np.log(np.exp(-(NODES**2) / 2).sum())
_LATENT = 3
"""The row of lambda among the coefficients, after theta, phi and psi."""
_ITERATIONS = 200
_LONGEST_STEP = 0.5
"""In log-odds: a longer one may leave the slope of the mode that the start is on for one without z."""
_TOLERANCE = 1e-4
PROMPTS_AT_ONCE = 2048
"""Of four arms they take some tens of MiB."""


@dataclass(frozen=True)
class LengthFit:
    """What the verdicts say of M arms.

    Attributes:
        win_rates: (M,) at x = 0, averaged over the prompts with a verdict on the arm.
        standard_errors: (M,) of the win rates' log-odds.
        coefficients: (T, M) theta, phi, and psi and lambda where the model has them, in log-odds.
        spreads: sd over the arms of phi, and of psi and lambda where the model has them.
    """

    win_rates: np.ndarray
    standard_errors: np.ndarray
    coefficients: np.ndarray
    spreads: np.ndarray

    @property
    def length_effects(self) -> np.ndarray:
        """(M,) phi_m: what the longest summaries win by over those of equal length, in log-odds."""
        return self.coefficients[1]


def fit_length_model(points: np.ndarray, differences: np.ndarray, difficulty: np.ndarray | None) -> LengthFit | None:
    """The posterior mode of the model above, or None where Newton's method does not reach it.

    The errors are those of an M-estimator over prompts, which are independent while verdicts on one prompt are not,
    plus the prior's: H^-1 (sum_i s_i s_i' + P) H^-1, with s_i prompt i's score, P the prior's precision and H the
    Hessian. An arm whose length effect is mostly the others' thus carries the arms' spread into its interval as far
    as equal length lies from its own lengths.

    Args:
        points: (M, N) 1, 0.5, 0 or anything between; NaN where there is no verdict.
        differences: (M, N) x, finite also where there is no verdict.
        difficulty: (N,) g; None leaves psi and lambda out (duels that share no opponent).
    """
    model = _Model(points, differences, difficulty)
    b = model.start()
    spreads = np.full(len(b) - 1, PRIOR_SPREAD)
    for _ in range(_ITERATIONS):
        penalty = model.penalty(spreads)
        step, hessian = _newton_step(model, b, penalty)
        b = b + step
        updated = model.spreads(b, np.linalg.inv(hessian), spreads)
        moved = max(np.abs(step).max(), np.abs(np.log(updated / spreads)).max())
        spreads = updated
        if moved < _TOLERANCE:
            return _at_equal_length(model, b, spreads)
    return None


class _Model:
    """Likelihood of coefficients b (T, M): theta and one row for each further term. Prompts are independent: they are
    added up part by part, so that no more than `PROMPTS_AT_ONCE` of them are held at all values of z."""

    def __init__(self, points: np.ndarray, differences: np.ndarray, difficulty: np.ndarray | None) -> None:
        self.points, self.arms = points, len(points)
        has_latent = difficulty is not None and self.arms > 1
        self.terms = 2 + (difficulty is not None) + has_latent
        self.parts = [
            _Part(points[:, some], differences[:, some], None if difficulty is None else difficulty[some], has_latent)
            for some in _parts(points.shape[1])
        ]

    def start(self) -> np.ndarray:
        """The raw win rates, and slopes of 1 so that lambda, whose sign is free, is positive."""
        raw = np.nansum(self.points, 1) / self.seen.sum(1)
        return np.stack([np.log(raw / (1 - raw)), *(np.ones(self.arms) for _ in range(1, self.terms))])

    @property
    def seen(self) -> np.ndarray:
        """(M, N)"""
        return ~np.isnan(self.points)

    def log_likelihood(self, b: np.ndarray) -> float:
        return sum(part.log_likelihood(part.logits(b))[0] for part in self.parts)

    def derivatives(self, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradient (T M,), and the information (T M, T M)."""
        gradient, information = np.zeros(b.size), np.zeros((b.size, b.size))
        for part in self.parts:
            logits = part.logits(b)
            _, posterior = part.log_likelihood(logits)
            scores = part.scores(logits)
            gradient += (scores * posterior).sum((1, 2))
            information += part.information(logits, posterior, scores)
        return gradient, information

    def penalty(self, spreads: np.ndarray) -> np.ndarray:
        """(T M, T M): the prior's precision, none on theta."""
        precision = np.zeros((self.terms * self.arms,) * 2)
        for j, spread in enumerate(spreads, start=1):
            rows = slice(j * self.arms, (j + 1) * self.arms)
            precision[rows, rows] = np.linalg.inv(spread**2 * np.eye(self.arms) + PRIOR_SD**2)
        return precision

    def spreads(self, b: np.ndarray, covariance: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The next sds over the arms, each with one arm's worth of `PRIOR_SPREAD`, from the `last` ones.

        MacKay's (1992, Neural Computation 4:415) step for a variance: squares over the number of coefficients that the
        data determine. It rests where an EM step does, and gets there sooner. lambda keeps `PRIOR_SPREAD`: a few arms
        hardly tell its size from 0, where its likelihood is far from normal and such a step does not settle.
        """
        centred = np.eye(self.arms) - 1 / self.arms
        found = last.copy()
        for j in range(1, min(len(b), _LATENT)):
            rows = slice(j * self.arms, (j + 1) * self.arms)
            undetermined = np.trace(centred @ covariance[rows, rows]) / last[j - 1] ** 2
            squares = PRIOR_SPREAD**2 + b[j] @ centred @ b[j]
            found[j - 1] = np.sqrt(squares / max(1.0, self.arms - undetermined))
        return found


class _Part:
    """The likelihood of some of the prompts."""

    def __init__(
        self, points: np.ndarray, differences: np.ndarray, difficulty: np.ndarray | None, has_latent: bool
    ) -> None:
        self.seen = ~np.isnan(points)[..., None]
        self.y = np.where(self.seen, np.nan_to_num(points)[..., None], 0.0)
        self.arms, self.prompts = points.shape
        self.nodes, self.log_weights = (NODES, _LOG_WEIGHTS) if has_latent else (np.zeros(1), np.zeros(1))
        # Each term broadcasts to (M, N, K): arms, prompts, values of z.
        self.terms = [np.ones((1, 1, 1)), differences[..., None]]
        if difficulty is not None:
            self.terms.append(difficulty[None, :, None])
        if has_latent:
            self.terms.append(self.nodes[None, None, :])

    def logits(self, b: np.ndarray, without: int | None = None) -> np.ndarray:
        """(M, N, K); `without` leaves a term out."""
        kept = [
            row[:, None, None] * term for i, (row, term) in enumerate(zip(b, self.terms, strict=True)) if i != without
        ]
        return sum(kept) + np.zeros((self.arms, self.prompts, self.nodes.size))

    def log_likelihood(self, logits: np.ndarray) -> tuple[float, np.ndarray]:
        """Summed over prompts, and each prompt's posterior (N, K) over the values of z."""
        each = np.where(self.seen, self.y * logits - np.logaddexp(0, logits), 0).sum(0) + self.log_weights
        highest = each.max(1, keepdims=True)
        weights = np.exp(each - highest)
        total = weights.sum(1, keepdims=True)
        return float((highest + np.log(total)).sum()), weights / total

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """(T M, N, K): derivatives of each prompt's log-likelihood at a given z by the coefficients."""
        residuals = np.where(self.seen, self.y - expit(logits), 0)
        return np.concatenate([residuals * term for term in self.terms])

    def information(self, logits: np.ndarray, posterior: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(T M, T M): minus the second derivatives, by Louis (1982): known z less the scores' variance over z."""
        p = expit(logits)
        weights = np.where(self.seen, p * (1 - p), 0) * posterior
        known = np.zeros((len(scores), len(scores)))
        for i, one in enumerate(self.terms):
            for j, other in enumerate(self.terms):
                block = known[i * self.arms : (i + 1) * self.arms, j * self.arms : (j + 1) * self.arms]
                np.fill_diagonal(block, (weights * one * other).sum((1, 2)))
        rooted = (scores * np.sqrt(posterior)).reshape(len(scores), -1)
        mean = (scores * posterior).sum(2)
        return known - (rooted @ rooted.T - mean @ mean.T)

    def at_equal_length(self, b: np.ndarray, shares: np.ndarray) -> "_AtEqualLength":
        """Args: `shares` (M, N), what each prompt weighs in the mean of each arm."""
        logits = self.logits(b)
        _, posterior = self.log_likelihood(logits)
        scores = self.scores(logits)
        by_prompt = (scores * posterior).sum(2)
        equal = expit(self.logits(b, without=1))
        on_prompt = (equal * posterior).sum(2)
        gradients = np.zeros((self.arms, *b.shape))
        shifted = np.zeros((self.arms, b.size))
        for m, share in enumerate(shares):
            # Through the coefficients at a given z, and through the posterior of z.
            slope = equal[m] * (1 - equal[m]) * posterior
            for j, term in enumerate(self.terms):
                if j != 1:
                    of_arm = np.broadcast_to(term, (self.arms, *equal[m].shape))[m]
                    gradients[m, j, m] = share @ (slope * of_arm).sum(1)
            shifted[m] = ((scores * (equal[m] * posterior)).sum(2) - by_prompt * on_prompt[m]) @ share
        return _AtEqualLength(by_prompt, on_prompt, gradients.reshape(self.arms, -1) + shifted)


class _AtEqualLength(NamedTuple):
    """Of some prompts: their scores (T M, N), each arm's win rates on them (M, N) and the derivatives of their weighted
    sums (M, T M)."""

    by_prompt: np.ndarray
    on_prompt: np.ndarray
    gradients: np.ndarray


def _newton_step(model: _Model, b: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A step that does not lower the penalised likelihood, and the Hessian it was taken with."""

    def objective(at: np.ndarray) -> float:
        return model.log_likelihood(at) - float(at.ravel() @ penalty @ at.ravel()) / 2

    gradient, information = model.derivatives(b)
    hessian = information + penalty
    if (lowest := float(np.linalg.eigvalsh(hessian)[0])) < 1e-6:  # far from the mode z makes it indefinite
        hessian += (0.1 - lowest) * np.eye(len(hessian))
    gradient -= penalty @ b.ravel()
    step, before = np.linalg.solve(hessian, gradient).reshape(b.shape), objective(b)
    step /= max(1.0, np.abs(step).max() / _LONGEST_STEP)
    while np.abs(step).max() > _TOLERANCE and objective(b + step) < before:
        step = step / 2
    return step, hessian


def _at_equal_length(model: _Model, b: np.ndarray, spreads: np.ndarray) -> LengthFit:
    """Win rates without the length term, over each prompt's posterior of z, and their errors by the delta method."""
    penalty = model.penalty(spreads)
    covariance = np.linalg.inv(model.derivatives(b)[1] + penalty)
    shares = model.seen / model.seen.sum(1, keepdims=True)
    found = [
        part.at_equal_length(b, of_part)
        for part, of_part in zip(model.parts, (shares[:, some] for some in _parts(shares.shape[1])), strict=True)
    ]
    by_prompt, on_prompt = (
        np.concatenate(arrays, axis=1) for arrays in zip(*(part[:2] for part in found), strict=True)
    )
    rates, errors = [], []
    for m, gradient in enumerate(np.sum([part.gradients for part in found], axis=0)):
        rate = float(shares[m] @ on_prompt[m])
        h = covariance @ gradient
        influence = shares[m] * (on_prompt[m] - rate) + h @ by_prompt
        variance = influence @ influence + h @ penalty @ h
        rates.append(rate)
        errors.append(np.sqrt(variance) / (rate * (1 - rate)) if 0 < rate < 1 else np.inf)
    return LengthFit(np.array(rates), np.array(errors), b, spreads)


def _parts(prompts: int) -> list[slice]:
    return [slice(start, start + PROMPTS_AT_ONCE) for start in range(0, prompts, PROMPTS_AT_ONCE)]
