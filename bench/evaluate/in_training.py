"""What samples on the way through a training are worth: distance, rewards, length and win rate at every step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.evaluate.overoptimisation import fit_over_prompts
from bench.evaluate.statistics import RESAMPLES, bootstrap_mean, estimate
from bench.evaluate.win_rate import win_rate
from bench.records import Completion, Verdict


@dataclass(frozen=True)
class Moment:
    """The samples after one step, all for the same prompts in the same order.

    Attributes:
        rewards: proxy and gold, as far as they are known -> one for each sample.
        verdicts: judge -> its verdicts against the reference summaries.
    """

    step: int
    samples: Sequence[Completion]
    rewards: Mapping[str, Sequence[float]]
    verdicts: Mapping[str, Sequence[Verdict]]


def by_step(rows: Iterable[Mapping[str, Any]]) -> dict[int, list[Completion]]:
    """Step -> its samples, the steps ascending, of the rows that a trainer left (`bench.train.samples`)."""
    found: dict[int, list[Completion]] = {}
    for row in rows:
        sample = {key: value for key, value in row.items() if key not in ("step", "steps")}
        found.setdefault(row["step"], []).append(Completion(**sample))
    return dict(sorted(found.items()))


def in_training(moments: Sequence[Moment], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """A row for each moment, the first of which is before the training, and the form fitted to each reward.

    "gain" is the reward less that of the policy before its training on the same prompt: what is fitted
    (`bench.evaluate.overoptimisation`).
    """
    start, draws = moments[0], (seed, resamples)

    def mean(values: Sequence[float]) -> dict[str, Any]:
        return estimate(bootstrap_mean(values, *draws))

    gains = {
        kind: np.array([np.subtract(moment.rewards[kind], start.rewards[kind]) for moment in moments])
        for kind in start.rewards
    }
    kl = np.array([[sample.kl for sample in moment.samples] for moment in moments], dtype=np.float64)
    points = [
        {
            "step": moment.step,
            "kl_ref": {**mean(kl[place].tolist()), "estimator": "exact"},
            "reward": {kind: mean(values) for kind, values in moment.rewards.items()},
            "gain": {kind: mean(of_kind[place].tolist()) for kind, of_kind in gains.items()},
            "length_tokens": mean([float(sample.n_tokens) for sample in moment.samples]),
            "win_rate": {judge: win_rate(verdicts, *draws) for judge, verdicts in moment.verdicts.items()},
        }
        for place, moment in enumerate(moments)
    ]
    return {
        "prompts": len(start.samples),
        "temperature": start.samples[0].temperature,
        "points": points,
        "fits": {kind: fit_over_prompts("rl", kl, of_kind, *draws) for kind, of_kind in gains.items()},
    }
