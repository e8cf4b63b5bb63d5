"""What watches trainers on completions that the policy samples."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from bench.train.health.check import Check, Measure
from bench.train.health.numbers import first, last, mean_of_last, over
from bench.train.health.settings import HealthSettings
from bench.train.log import Row


def mean_update(key: str) -> Measure:
    return lambda rows, settings: mean_of_last(rows, key, settings.updates)


def share_of_start(key: str) -> Measure:
    """Mean of the last updates over the first one's, whose completions are the SFT model's."""

    def measure(rows: Sequence[Row], settings: HealthSettings) -> float | None:
        start, mean = first(rows, key), mean_of_last(rows, key, settings.updates)
        return None if mean is None or not start else mean / start

    return measure


def finished_drop(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """How far the share of finished completions has fallen since the first updates; None unless the score rose."""
    if len(rows) < 2 * settings.updates:
        return None
    early, late = rows[: settings.updates], rows[-settings.updates :]

    def gain(key: str) -> float:
        return fmean(last(late, key, len(late)) or [0.0]) - fmean(last(early, key, len(early)) or [0.0])

    return -gain("finished") if gain("score") > 0 else None


def overoptimised(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """How far the true reward has fallen from its best while the score rose, each in its standard errors; the smaller.

    The noise of one update is read off the differences of neighbours (von Neumann 1941), which a slow trend hardly
    touches.
    """
    size = settings.updates
    known = [
        (gold, score) for row in rows if (gold := row.get("gold")) is not None and (score := row["score"]) is not None
    ]
    if len(known) < 4 * size:
        return None
    golds, scores = zip(*known, strict=True)
    best = max(range(len(golds) - 2 * size + 1), key=lambda start: fmean(golds[start : start + size]))

    def change(values: Sequence[float]) -> float:
        steps = [b - a for a, b in pairwise(values)]
        error = math.sqrt(fmean(step * step for step in steps) / 2) * math.sqrt(2 / size)
        return over(fmean(values[-size:]) - fmean(values[best : best + size]), error)

    return min(-change(golds), change(scores))


POLICY = (
    Check(
        "kl_negative",
        "warning",
        mean_update("kl_ref"),
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
        mean_update("kl_ref"),
        "above",
        lambda s: s.kl_collapse,
        "the policy is {value:.3g} nats per completion from the SFT model: it has collapsed onto texts that the reward"
        " model likes",
        "a larger {group}.beta, a lower {group}.learning_rate, fewer episodes (budget.ppo_episodes), another seed",
    ),
    Check(
        "entropy_collapse",
        "warning",
        share_of_start("entropy"),
        "below",
        lambda s: s.min_entropy_share,
        "the policy's entropy is down to {value:.0%} of the SFT model's: it writes nearly the same tokens whatever it"
        " draws, and has stopped exploring",
        "a larger {group}.beta, a lower {group}.learning_rate, or a higher sampling.temperature",
    ),
    Check(
        "length_collapse",
        "warning",
        share_of_start("length_tokens"),
        "below",
        lambda s: s.min_length_share,
        "completions are down to {value:.0%} of the SFT model's length",
        "a larger {group}.beta; see whether the reward model prefers short texts (its longer_wins)",
    ),
    Check(
        "length_explosion",
        "warning",
        share_of_start("length_tokens"),
        "above",
        lambda s: s.max_length_share,
        "completions have grown to {value:.0%} of the SFT model's length",
        "a larger {group}.beta; see whether the reward model prefers long texts (its longer_wins)",
    ),
    Check(
        "eos_rate",
        "warning",
        mean_update("finished"),
        "below",
        lambda s: s.min_finished,
        "only {value:.0%} of the completions end: the others were cut, and their score is that of half a text",
        "a larger budget.max_completion_tokens, more SFT (budget.sft_epochs), or a penalty for a missing EOS",
    ),
    Check(
        "finished_falls",
        "warning",
        finished_drop,
        "above",
        lambda s: s.max_finished_drop,
        "the score rises while {value:.0%} fewer completions end: the reward model is being gamed with cut texts",
        "a penalty for a missing EOS that lies below the scores seen, or a larger {group}.beta",
    ),
    Check(
        "score_constant",
        "warning",
        mean_update("score_std"),
        "below",
        lambda s: s.min_score_std,
        "the scores of a batch differ by {value:.2g} (standard deviation): there is nothing to learn from",
        "look at the reward model's accuracy, and whether all completions are alike or all penalised",
    ),
    Check(
        "overoptimised",
        "warning",
        overoptimised,
        "above",
        lambda s: s.standard_errors,
        "the true reward has fallen from its best while the score rose, both by {value:.1f} standard errors or more:"
        " the policy exploits the reward model (Gao et al. 2022)",
        "stopping earlier (budget.ppo_episodes), a larger {group}.beta, or more pairs for the reward model",
    ),
)
