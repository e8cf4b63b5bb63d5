"""Failures and spread over runs, counted by hand."""

import math

import numpy as np
import pytest

from bench.errors import DataError
from bench.evaluate.robustness import equal_spread, failures, settings_that_matter, simpler


def run(ppo: float, dpo: float, sft: float = 0.5, collapsed: tuple[str, ...] = ()) -> dict:
    """Win rates on 400 prompts: 0.1 below SFT is decided to be below it."""

    def rate(value: float) -> dict:
        half = 1.96 * math.sqrt(value * (1 - value) / 400)
        return {"gold": {"value": value, "ci95": [value - half, value + half], "n": 400, "ties": 0}}

    return {
        "arms": {arm: {"win_rate": rate(x)} for arm, x in (("ppo", ppo), ("dpo", dpo), ("sft", sft))},
        "health": {arm: {"collapsed": arm in collapsed} for arm in ("ppo", "dpo")},
    }


def test_a_run_fails_by_collapse_or_by_losing_to_sft():
    runs = [run(0.8, 0.8), run(0.3, 0.8), run(0.8, 0.8, collapsed=("ppo",)), run(0.3, 0.8, collapsed=("ppo",))]

    ppo, dpo = (failures(runs, arm, "gold") for arm in ("ppo", "dpo"))

    assert (ppo["collapsed"], ppo["lost_to_sft"], ppo["failed"]["value"], ppo["failed"]["n"]) == (2, 2, 0.75, 4)
    assert dpo["failed"]["value"] == 0
    assert ppo["win_rate"]["mean"] == pytest.approx(0.55)
    assert ppo["win_rate"]["sd"] == pytest.approx(math.sqrt(4 * 0.25**2 / 3))
    assert (ppo["win_rate"]["min"], ppo["win_rate"]["max"]) == (0.3, 0.8)
    # Wilson's interval of 3 of 4.
    centre, half = (3 + 1.9208) / (4 + 3.8415), 1.96 * math.sqrt(3 * 1 / 4 + 3.8415 / 4) / (4 + 3.8415)
    assert ppo["failed"]["ci95"] == pytest.approx([centre - half, centre + half], abs=1e-3)


def test_six_failures_of_one_arm_alone_decide_and_five_do_not():
    def verdict(ppo: int, dpo: int) -> str:
        good, both = [run(0.8, 0.8)] * 4, [run(0.3, 0.3)] * 2
        return simpler([run(0.3, 0.8)] * ppo + [run(0.8, 0.3)] * dpo + good + both, "gold")["verdict"]

    # Exact McNemar of k against 0: 2 / 2^k; twice that under Holm with the spread's, which is not decided here.
    assert verdict(7, 0) == "supported"  # 2 x 2 / 128 = 0.031
    assert verdict(6, 0) == "not decided at this n"  # 2 x 2 / 64 = 0.0625
    assert verdict(0, 7) == "contradicted"
    assert verdict(7, 7) == "not decided at this n"


def test_a_wider_spread_decides_without_any_failure():
    x = np.linspace(-1, 1, 12)
    runs = [run(0.75 + 0.2 * a, 0.75 + 0.01 * b) for a, b in zip(x, np.roll(x, 5), strict=True)]

    found = simpler(runs, "gold")

    assert found["verdict"] == "supported"
    assert found["estimate"]["spread"]["ratio"] == pytest.approx(20)
    assert found["estimate"]["value"] == 0


def test_equal_spreads_by_enumeration():
    a = np.array([0.1, 0.5, 0.2, 0.9, 0.4])
    assert equal_spread(a, a[::-1])["ratio"] == pytest.approx(1)
    assert equal_spread(a, a[::-1])["p_value"] == pytest.approx(1)
    assert equal_spread(a, a) == {"ratio": None, "p_value": None}  # no difference to test
    assert equal_spread(a[:3], a[2:]) == {"ratio": None, "p_value": None}


def test_settings_that_matter():
    rate, beta = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3.0, 1.0, 2.0, 3.0, 1.0, 2.0]
    settings = [{"ppo.learning_rate": r, "ppo.beta": b, "ppo.lam": 0.95} for r, b in zip(rate, beta, strict=True)]

    found = settings_that_matter(settings, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])

    assert found["ppo.learning_rate"]["rank_correlation"] == pytest.approx(1)
    p_rate, p_beta = (found[f"ppo.{name}"]["p_holm"] for name in ("learning_rate", "beta"))
    assert p_rate is not None and p_beta is not None and p_rate < 0.05 < p_beta
    assert found["ppo.lam"] == {"rank_correlation": None, "p_value": None, "p_holm": None}  # it was not varied


def test_what_is_missing_is_said():
    with pytest.raises(DataError, match="no runs with arm ppo"):
        failures([], "ppo", "gold")
    with pytest.raises(DataError, match="no win rate of ppo by human"):
        failures([run(0.5, 0.5)], "ppo", "human")
    with pytest.raises(DataError, match="every run needs the same settings"):
        settings_that_matter([{"a": 1.0}, {"b": 1.0}], [0.1, 0.2])
