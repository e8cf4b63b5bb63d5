"""The checks of each kind of trainer: what is measured, where it is unwell, and what that means in plain words."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.train.health import measures
from bench.train.health.measures import Measure
from bench.train.health.settings import HealthSettings
from bench.train.log import Row

Severity = Literal["note", "warning", "collapse"]


@dataclass(frozen=True)
class Check:
    """Fires when `measure` reaches `threshold`, from below (`above`) or from above (`below`).

    A `note` explains what is normal, a `warning` may be mended, a `collapse` is the end of what training could teach.
    `message` may name {value} and {threshold}; `advice` {group}, the trainer's group in the config.
    """

    name: str
    severity: Severity
    measure: Measure
    bad: Literal["above", "below"]
    threshold: Callable[[HealthSettings], float]
    message: str
    advice: str


NOT_FINITE = "not_finite"
"""The check of the only finding that ends a run."""


def _not_finite(*keys: str) -> Check:
    return Check(
        NOT_FINITE,
        "collapse",
        measures.not_finite(*keys),
        "above",
        lambda s: 1.0,
        "the loss or its gradient is not a finite number; training stopped before this step and the weights before it"
        " are kept",
        "a lower {group}.learning_rate, some {group}.warmup_steps, or model.precision=fp32",
    )


_GRAD_SPIKE = Check(
    "grad_spike",
    "warning",
    measures.grad_spike,
    "above",
    lambda s: s.grad_spike,
    "the gradient is {value:.3g} times as large as in the steps before: a batch unlike the others, or the start of a"
    " divergence",
    "a lower {group}.learning_rate or {group}.max_grad_norm; look at the texts of that batch",
)

_SFT = [
    _not_finite("loss", "grad_norm"),
    _GRAD_SPIKE,
    Check(
        "loss_not_falling",
        "warning",
        measures.loss_fall,
        "below",
        lambda s: 0.0,
        "the loss is no lower than at the start: the model has learned nothing",
        "a higher {group}.learning_rate if the loss lies flat, a lower one if it jumped in the first steps",
    ),
    Check(
        "loss_rising",
        "warning",
        measures.loss_rise,
        "above",
        lambda s: s.standard_errors,
        "the loss rises: it lies {value:.1f} standard errors above that of the middle of the run",
        "a lower {group}.learning_rate, or more {group}.warmup_steps",
    ),
]


def _pairwise(accuracy: str, start: Callable[..., float | None], start_in_words: str) -> list[Check]:
    return [
        Check(
            "accuracy_stuck",
            "warning",
            measures.accuracy_floor(accuracy),
            "below",
            lambda s: 0.5,
            "it tells chosen from rejected no better than a coin (lower end of the 95 % interval: {value:.2f})",
            "a higher {group}.learning_rate or more pairs; check that chosen and rejected are not swapped or mixed",
        ),
        Check(
            "loss_above_start",
            "warning",
            measures.loss_above(start),
            "above",
            lambda s: s.max_loss_share,
            f"the loss is {{value:.3g}} times {start_in_words}: training has made it worse than not knowing",
            "a lower {group}.learning_rate, or more {group}.warmup_steps",
        ),
    ]


_REWARD = [
    _not_finite("loss", "grad_norm", "margin"),
    _GRAD_SPIKE,
    *_pairwise("accuracy", lambda rows: math.log(2), "log 2, a coin's"),
]

_DPO = [
    _not_finite("loss", "grad_norm"),
    _GRAD_SPIKE,
    *_pairwise("rewards/accuracies", lambda rows: measures.first(rows, "loss"), "the SFT model's"),
    Check(
        "both_logps_falling",
        "note",
        measures.both_fallen,
        "below",
        lambda s: -s.standard_errors,
        "the log-probs of chosen and of rejected summaries have both fallen below the SFT model's; DPO learns only"
        " their difference, so this is common and no error, but the probability has gone to texts in neither",
        "nothing while accuracy and win rate rise; otherwise a larger {group}.beta or fewer epochs",
    ),
    Check(
        "memorised",
        "warning",
        measures.memorised_margin,
        "above",
        lambda s: s.overfit_margin,
        "nearly every training pair is ordered as labelled, by a mean margin of {value:.3g}: labels are noisy, so this"
        " is memorised",
        "fewer epochs (budget.dpo_epochs), a lower {group}.learning_rate, or a larger {group}.beta",
    ),
]

_POLICY = [
    Check(
        "kl_negative",
        "warning",
        measures.mean_update("kl_ref"),
        "below",
        lambda s: -s.kl_negative,
        "the KL to the SFT model is {value:.3g} nats on average, and a KL cannot be negative: the samples do not come"
        " from the policy whose log-probs are taken",
        "sampling over all tokens at the temperature of the log-probs, no banned EOS, and a sampler with the current"
        " weights; model.precision=fp32 if the two differ in rounding",
    ),
    Check(
        "kl_runaway",
        "collapse",
        measures.mean_update("kl_ref"),
        "above",
        lambda s: s.kl_collapse,
        "the policy is {value:.3g} nats per completion from the SFT model: it has collapsed onto texts that the reward"
        " model likes",
        "a larger {group}.beta, a lower {group}.learning_rate, fewer episodes (budget.ppo_episodes), another seed",
    ),
    Check(
        "entropy_collapse",
        "warning",
        measures.share_of_start("entropy"),
        "below",
        lambda s: s.min_entropy_share,
        "the policy's entropy is down to {value:.0%} of the SFT model's: it writes nearly the same tokens whatever it"
        " draws, and has stopped exploring",
        "a larger {group}.beta, a lower {group}.learning_rate, or a higher sampling.temperature",
    ),
    Check(
        "length_collapse",
        "warning",
        measures.share_of_start("length_tokens"),
        "below",
        lambda s: s.min_length_share,
        "completions are down to {value:.0%} of the SFT model's length",
        "a larger {group}.beta; see whether the reward model prefers short texts (its longer_wins)",
    ),
    Check(
        "length_explosion",
        "warning",
        measures.share_of_start("length_tokens"),
        "above",
        lambda s: s.max_length_share,
        "completions have grown to {value:.0%} of the SFT model's length",
        "a larger {group}.beta; see whether the reward model prefers long texts (its longer_wins)",
    ),
    Check(
        "eos_rate",
        "warning",
        measures.mean_update("finished"),
        "below",
        lambda s: s.min_finished,
        "only {value:.0%} of the completions end: the others were cut, and their score is that of half a text",
        "a larger budget.max_completion_tokens, more SFT (budget.sft_epochs), or a penalty for a missing EOS",
    ),
    Check(
        "finished_falls",
        "warning",
        measures.finished_drop,
        "above",
        lambda s: s.max_finished_drop,
        "the score rises while {value:.0%} fewer completions end: the reward model is being gamed with cut texts",
        "a penalty for a missing EOS that lies below the scores seen, or a larger {group}.beta",
    ),
    Check(
        "score_constant",
        "warning",
        measures.mean_update("score_std"),
        "below",
        lambda s: s.min_score_std,
        "the scores of a batch differ by {value:.2g} (standard deviation): there is nothing to learn from",
        "look at the reward model's accuracy, and whether all completions are alike or all penalised",
    ),
    Check(
        "overoptimised",
        "warning",
        measures.overoptimised,
        "above",
        lambda s: s.standard_errors,
        "the true reward has fallen from its best while the score rose, both by {value:.1f} standard errors or more:"
        " the policy exploits the reward model (Gao et al. 2022)",
        "stopping earlier (budget.ppo_episodes), a larger {group}.beta, or more pairs for the reward model",
    ),
]

_PPO = [
    _not_finite("policy_loss", "value_loss", "policy_grad_norm", "value_grad_norm"),
    *_POLICY,
    Check(
        "ratio_spike",
        "warning",
        measures.last_update("ratio_max"),
        "above",
        lambda s: s.ratio_max,
        "a token became {value:.3g} times as probable within one update, far beyond the clip range: an update this"
        " large is not what its samples can tell",
        "a lower {group}.learning_rate, fewer {group}.ppo_epochs, or {group}.max_approx_kl",
    ),
    Check(
        "approx_kl",
        "warning",
        measures.last_update("approx_kl"),
        "above",
        lambda s: s.approx_kl,
        "one update moved the policy by {value:.3g} nats per token from the one that sampled: clipping no longer"
        " holds it",
        "a lower {group}.learning_rate, fewer {group}.ppo_epochs, or {group}.max_approx_kl",
    ),
    Check(
        "value_unexplained",
        "warning",
        measures.best_explained,
        "below",
        lambda s: 0.0,
        "the values explain nothing of the returns (explained variance {value:.2g} at best): advantages are mostly"
        " noise",
        "a higher {group}.value_learning_rate or {group}.vf_coef, or a larger {group}.batch_size",
    ),
]

_RLOO = [_not_finite("loss", "grad_norm"), _GRAD_SPIKE, *_POLICY]

CHECKS: Mapping[str, list[Check]] = {
    "sft": _SFT,
    "preferred_ft": _SFT,
    "reward": _REWARD,
    "judge_reward": _REWARD,
    "dpo": _DPO,
    "ppo": _PPO,
    "rloo": _RLOO,
}
"""By stage."""
GROUPS = {"preferred_ft": "sft", "judge_reward": "reward"}
"""The config group of a stage's trainer, where it is not named after the stage."""


def in_our_words(stage: str, row: Row) -> Row:
    """The row with TRL's names of what a policy's rollouts are like changed to those of PPO's log."""
    if stage != "rloo":
        return row
    length, token_kl, cut = (row.get(key) for key in ("completions/mean_length", "kl", "completions/clipped_ratio"))
    return row | {
        "score": row.get("reward"),
        "score_std": row.get("reward_std"),
        "length_tokens": length,
        "kl_ref": None if token_kl is None or length is None else token_kl * length,
        "finished": None if cut is None else 1 - cut,
    }
