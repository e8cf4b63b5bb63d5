"""What watches PPO."""

from collections.abc import Sequence

from bench.train.health.check import Check, Checklist, Measure, not_finite
from bench.train.health.numbers import last
from bench.train.health.rollouts import POLICY
from bench.train.health.settings import HealthSettings
from bench.train.log import Row


def last_update(key: str) -> Measure:
    return lambda rows, settings: rows[-1].get(key)


def best_explained(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """Largest explained variance of the last `unexplained_updates`."""
    values = last(rows, "explained_variance", settings.unexplained_updates)
    return max(values) if len(values) == settings.unexplained_updates else None


PPO = Checklist(
    "ppo",
    (
        not_finite("policy_loss", "value_loss", "policy_grad_norm", "value_grad_norm"),
        *POLICY,
        Check(
            "ratio_spike",
            "warning",
            last_update("ratio_max"),
            "above",
            lambda s: s.ratio_max,
            "a token became {value:.3g} times as probable within one update, far beyond the clip range: an update this"
            " large is not what its samples can tell",
            "a lower {group}.learning_rate, fewer {group}.ppo_epochs, or {group}.max_approx_kl",
        ),
        Check(
            "approx_kl",
            "warning",
            last_update("approx_kl"),
            "above",
            lambda s: s.approx_kl,
            "one update moved the policy by {value:.3g} nats per token from the one that sampled: clipping no longer"
            " holds it",
            "a lower {group}.learning_rate, fewer {group}.ppo_epochs, or {group}.max_approx_kl",
        ),
        Check(
            "value_unexplained",
            "warning",
            best_explained,
            "below",
            lambda s: 0.0,
            "the values explain nothing of the returns (explained variance {value:.2g} at best): advantages are mostly"
            " noise",
            "a higher {group}.value_learning_rate or {group}.vf_coef, or a larger {group}.batch_size",
        ),
    ),
)
