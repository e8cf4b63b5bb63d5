"""What watches DPO."""

from collections.abc import Sequence
from statistics import fmean

from bench.train.health.check import GRAD_SPIKE, Check, Checklist, not_finite
from bench.train.health.numbers import first, last, mean_of_last, over, standard_error
from bench.train.health.pairwise import pairwise
from bench.train.health.settings import HealthSettings
from bench.train.log import Row


def both_fallen(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """How far chosen and rejected log-probs lie from the reference's, in standard errors: the higher of the two.

    Read off the implicit rewards: beta x (log policy - log reference), so that what varies between texts is out.
    """
    chosen, rejected = (last(rows, f"rewards/{side}", settings.window) for side in ("chosen", "rejected"))
    if min(len(chosen), len(rejected)) < max(2, settings.window):
        return None
    return max(over(fmean(values), standard_error(values)) for values in (chosen, rejected))


def memorised_margin(rows: Sequence[Row], settings: HealthSettings) -> float | None:
    """The mean margin while nearly every pair is ordered as the labels have it; these are noisy, so none should be."""
    accuracy = mean_of_last(rows, "rewards/accuracies", settings.window)
    if accuracy is None or accuracy < settings.overfit_accuracy:
        return None
    return mean_of_last(rows, "rewards/margins", settings.window)


DPO = Checklist(
    "dpo",
    (
        not_finite("loss", "grad_norm"),
        GRAD_SPIKE,
        *pairwise("rewards/accuracies", lambda rows: first(rows, "loss"), "the SFT model's"),
        Check(
            "both_logps_falling",
            "note",
            both_fallen,
            "below",
            lambda s: -s.standard_errors,
            "the log-probs of chosen and of rejected summaries have both fallen below the SFT model's; DPO learns only"
            " their difference, so this is common and no error, but the probability has gone to texts in neither",
            "nothing while accuracy and win rate rise; otherwise a larger {group}.beta or fewer epochs",
        ),
        Check(
            "memorised",
            "warning",
            memorised_margin,
            "above",
            lambda s: s.overfit_margin,
            "nearly every training pair is ordered as labelled, by a mean margin of {value:.3g}: labels are noisy, so"
            " this is memorised",
            "fewer epochs (budget.dpo_epochs), a lower {group}.learning_rate, or a larger {group}.beta",
        ),
    ),
)
