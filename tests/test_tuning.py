"""Trials: as many for each arm, drawn alike for every seed, and refused where a setting does not exist."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bench.config import BudgetConfig, RunConfig
from bench.errors import ConfigError
from bench.tuning import Space, TuningConfig, drawn

SPACE = {"dpo": {"beta": Space(0.02, 0.5)}, "ppo": {"ppo_epochs": Space(values=(1.0, 2.0, 4.0))}}


def run_config(**changes: Any) -> RunConfig:
    return RunConfig(budget=BudgetConfig(max_prompt_tokens=160), **changes)


def trial(number: int | None, **changes: Any) -> RunConfig:
    return drawn(run_config(tuning=TuningConfig(trial=number, trials=1000, space=SPACE), **changes))


def test_the_first_trial_and_no_trial_are_the_presets():
    for number in (None, 0):
        config = trial(number)
        assert config.dpo == run_config().dpo and config.ppo == run_config().ppo


def test_draws_depend_on_arm_and_trial_and_not_on_the_seed_or_the_other_arm():
    config = trial(3)
    assert config.dpo.beta == trial(3, seed=1).dpo.beta != trial(4).dpo.beta
    alone = TuningConfig(trial=3, trials=1000, space={"dpo": SPACE["dpo"]})
    assert drawn(run_config(tuning=alone)).dpo.beta == config.dpo.beta
    assert drawn(run_config(tuning=replace(alone, seed=1))).dpo.beta != config.dpo.beta
    assert (config.sft, config.reward, config.budget) == (run_config().sft, run_config().reward, run_config().budget)


def test_a_range_is_even_on_a_log_scale():
    betas = [trial(number).dpo.beta for number in range(1, 1000)]
    assert min(betas) >= 0.02 and max(betas) <= 0.5
    middle = math.sqrt(0.02 * 0.5)  # half of the draws lie below it, +- 3 standard errors of sqrt(.25 / 999)
    assert sum(beta < middle for beta in betas) / 999 == pytest.approx(0.5, abs=0.05)


def test_values_are_drawn_as_the_setting_has_them():
    passes = [trial(number).ppo.ppo_epochs for number in range(1, 200)]
    assert {type(value) for value in passes} == {int} and set(passes) == {1, 2, 4}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space(0.5, 0.1), "must be 0 < low < high"),
        (lambda: Space(0.5), "must give low and high, or values"),
        (lambda: Space(0.1, 0.5, (1.0,)), "must give low and high, or values"),
        (lambda: TuningConfig(trial=8), r"tuning.trial must be 0 to 7 \(tuning.trials\), or null, got 8"),
        (lambda: TuningConfig(space={"base": {"beta": Space(0.1, 1)}}), "tuning.space must name arms that are trained"),
        (lambda: TuningConfig(space={"dpo": {"beta": Space(0.1, 1)}, "ppo": {}}), "draw as many settings of every arm"),
        (
            lambda: drawn(run_config(tuning=TuningConfig(trial=1, space={"dpo": {"bta": Space(0.1, 1)}}))),
            "must be a setting of dpo, got 'dpo.bta'",
        ),
    ],
)
def test_what_cannot_be_drawn(make: Callable[[], Any], message: str):
    with pytest.raises(ConfigError, match=message):
        make()
