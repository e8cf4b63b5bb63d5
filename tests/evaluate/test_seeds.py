import math
import subprocess
import sys

import pytest

from bench.errors import DataError
from bench.evaluate.seeds import across_seeds, is_collapsed


def rate(value, low=None, high=None):
    return {"value": value, "ci95": None if low is None else [low, high], "n": 256}


def run(seed, ppo, sft=0.4):
    rates = {"ppo": ppo, "sft": sft}
    return {
        "seed": seed,
        "arms": {arm: {"win_rate": {"gold": rate(x, x - 0.05, x + 0.05)}} for arm, x in rates.items()},
    }


def test_mean_and_spread_of_every_seed_the_collapsed_ones_too():
    # The 1B PPO policies of Huang et al. 2024, with an SFT model at 0.33.
    found = across_seeds(
        [run(seed, x, 0.33) for seed, x in ((3, 0.62), (0, 0.54), (1, 0.22), (2, 0.20))], "ppo", "gold"
    )
    values = [0.54, 0.22, 0.20, 0.62]
    mean = sum(values) / 4
    sd = math.sqrt(sum((x - mean) ** 2 for x in values) / 3)
    assert [row["seed"] for row in found["seeds"]] == [0, 1, 2, 3]
    assert [row["value"] for row in found["seeds"]] == values
    assert [row["collapsed"] for row in found["seeds"]] == [False, True, True, False]
    assert found["seeds"][0]["ci95"] == [pytest.approx(0.49), pytest.approx(0.59)]
    assert (found["mean"], found["sd"], found["n"], found["collapsed"]) == (
        pytest.approx(mean),
        pytest.approx(sd),
        4,
        2,
    )
    half = 3.1824 * sd / 2  # Student's t with 3 degrees of freedom
    assert found["ci95"] == [pytest.approx(mean - half, abs=1e-4), pytest.approx(mean + half, abs=1e-4)]


def test_one_seed_has_no_spread():
    found = across_seeds([run(0, 0.6)], "ppo", "gold")
    assert (found["mean"], found["sd"], found["ci95"], found["n"]) == (0.6, None, None, 1)


def test_collapsed_is_below_the_sft_model_by_more_than_chance():
    assert is_collapsed(rate(0.3, 0.2, 0.39), rate(0.4, 0.3, 0.5))
    assert not is_collapsed(rate(0.3, 0.2, 0.41), rate(0.4, 0.3, 0.5))


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "there are no runs"),
        ([run(1, 0.5), run(1, 0.6)], "seed 1 is there twice"),
        ([run(1, 0.5), {"seed": 2, "arms": {}}], "seed 2 has no win rate of ppo by judge gold"),
    ],
)
def test_runs_that_cannot_be_summarized(runs, message):
    with pytest.raises(DataError, match=message):
        across_seeds(runs, "ppo", "gold")


def test_a_report_may_import_it_without_torch():
    code = "import sys, bench.evaluate.seeds; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
