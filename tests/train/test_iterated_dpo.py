"""What a round of iterated DPO learns from."""

import pytest

from bench.errors import ConfigError
from bench.train.iterated_dpo import Scored, best_and_worst
from bench.train.settings.iterated_dpo import IteratedDPOSettings, rounds_within


def pair(*samples: tuple[str, bool, float]):
    return best_and_worst("id", "post", [Scored(*sample) for sample in samples])


def test_the_best_that_ended_against_the_worst():
    found = pair(("b", True, 0.5), ("a", True, 2.0), ("c", True, -1.0))
    assert found is not None and (found.id, found.prompt, found.chosen, found.rejected) == ("id", "post", "a", "c")
    cut_off = pair(("a", True, -3.0), ("cut", False, 9.0), ("b", True, -4.0))
    assert cut_off is not None and (cut_off.chosen, cut_off.rejected) == ("a", "cut")


@pytest.mark.parametrize(
    "samples",
    [
        (("a", True, 1.0), ("a", True, 1.0)),  # one text
        (("a", True, 1.0), ("b", True, 1.0)),  # one score
    ],
)
def test_nothing_where_nothing_is_better(samples):
    assert pair(*samples) is None


def test_all_rounds_together_have_the_budgets_samples():
    settings = IteratedDPOSettings(rounds=3, samples_per_post=4)
    assert rounds_within(settings, 1536) == (3, 128)
    assert rounds_within(settings, 11) == (2, 1)  # two posts of four samples
    with pytest.raises(ConfigError, match=r"budget\.ppo_episodes must be at least iterated_dpo\.samples_per_post"):
        rounds_within(settings, 3)
