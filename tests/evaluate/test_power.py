import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from bench.evaluate.power import (
    power_line,
    power_summary,
    prompts_needed,
    prompts_to_decide,
    smallest_detectable_gap,
)

Z_ALPHA, Z_POWER = norm.isf(0.025), norm.ppf(0.8)


def test_the_papers_gap_would_have_taken_1700_prompts_per_arm():
    # DPO 158 of 256, PPO 146 of 256 (Rafailov et al. 2023, temperature 0): z = 1.1.
    dpo, ppo = 158 / 256, 146 / 256
    pooled = (dpo + ppo) / 2
    assert (dpo - ppo) / math.sqrt(2 * pooled * (1 - pooled) / 256) == pytest.approx(1.08, abs=0.005)

    # The variance of 2 arcsin(sqrt(p)) is 1 / n, so two arms need n = 2 (z + z)^2 / h^2 each.
    h = 2 * math.asin(math.sqrt(dpo)) - 2 * math.asin(math.sqrt(ppo))
    expected = 2 * (Z_ALPHA + Z_POWER) ** 2 / h**2
    assert prompts_needed(dpo - ppo, base=ppo) == math.ceil(expected) == 1722


def exact_power(n, only_a, only_b):
    """Of the two-sided sign test over the discordant prompts among n, by enumeration of all outcomes."""
    found = 0.0
    for m in range(n + 1):
        wins = np.arange(m + 1)
        p_values = np.minimum(1, 2 * binom.sf(np.maximum(wins, m - wins) - 1, m, 0.5))
        rejected = binom.pmf(wins, m, only_a / (only_a + only_b))[p_values < 0.05].sum()
        found += binom.pmf(m, n, only_a + only_b) * rejected
    return found


@pytest.mark.parametrize(("only_a", "only_b"), [(0.6, 0.4), (0.37, 0.23), (0.25, 0.15), (0.7, 0.3)])
def test_the_exact_test_has_the_power_that_was_planned(only_a, only_b):
    """80 %, give or take what a prompt more or less does to a test that goes in whole prompts."""
    n = prompts_needed(only_a - only_b, discordant=only_a + only_b)
    assert np.mean([exact_power(m, only_a, only_b) for m in range(n - 3, n + 4)]) == pytest.approx(0.8, abs=0.012)


def test_paired_arms_need_their_discordant_prompts():
    # Wins minus losses have variance d per prompt under no difference, and d - gap^2 under the gap.
    score = (Z_ALPHA * math.sqrt(0.3) + Z_POWER * math.sqrt(0.3 - 0.1**2)) ** 2 / 0.1**2
    expected = score / 4 * (1 + math.sqrt(1 + 4 / (score * 0.1))) ** 2
    assert score + 19 < expected < score + 20  # about 2 / gap more
    assert prompts_needed(0.1, discordant=0.3) == math.ceil(expected)
    assert prompts_needed(-0.1, discordant=0.3) == math.ceil(expected)
    assert prompts_needed(0.1, discordant=0.15) < prompts_needed(0.1, discordant=0.3)


@pytest.mark.parametrize("discordant", [None, 0.4, 1.0])
@pytest.mark.parametrize("n", [64, 256, 2000])
def test_the_smallest_gap_of_n_prompts_needs_n_prompts(n, discordant):
    gap = smallest_detectable_gap(n, discordant=discordant)
    assert gap is not None
    assert prompts_needed(gap, discordant=discordant) == pytest.approx(n, abs=1)


def test_higher_power_takes_a_wider_gap():
    gaps = [smallest_detectable_gap(256, discordant=0.5, power=power) for power in (0.5, 0.8, 0.95)]
    assert gaps == sorted(gaps) and gaps[0] < gaps[2]  # pyright: ignore


def test_some_samples_show_no_gap_at_all():
    assert smallest_detectable_gap(3, base=0.9) is None
    assert smallest_detectable_gap(4, discordant=0.5) is None


@pytest.mark.parametrize(
    ("gap", "options", "message"),
    [
        (0.0, {}, "gap of 0"),
        (0.2, {"base": 0.9}, r"within \[0, 1\]"),
        (0.3, {"discordant": 0.2}, "discordant share must be between the gap 0.3 and 1, got 0.2"),
        (0.3, {"discordant": 1.2}, "got 1.2"),
    ],
)
def test_gaps_that_cannot_be(gap, options, message):
    with pytest.raises(ValueError, match=message):
        prompts_needed(gap, **options)


def test_before_a_run():
    summary = power_summary(256)
    # Head to head without ties, wins minus losses g = 2 x distance: ((z + z sqrt(1 - g^2)) / g)^2 by the score test.
    g = 2 * summary["head_to_head"]
    score = ((Z_ALPHA + Z_POWER * math.sqrt(1 - g**2)) / g) ** 2
    assert score / 4 * (1 + math.sqrt(1 + 4 / (score * g))) ** 2 == pytest.approx(256)
    h = 2 * math.asin(math.sqrt(0.5 + summary["between_arms"])) - math.pi / 2
    assert h == pytest.approx((Z_ALPHA + Z_POWER) * math.sqrt(2 / 256))
    assert (summary["n"], summary["power"], summary["level"]) == (256, 0.8, 0.05)

    line = power_line(256)
    assert "\n" not in line and line.startswith("256 prompts:")
    assert f"{100 * summary['head_to_head']:.1f} points from 50 %" in line
    assert f"win rates {100 * summary['between_arms']:.1f} points" in line
    assert power_line(2).startswith("2 prompts: too few to tell any two arms apart")


def test_after_an_undecided_run():
    # 54 % with 40 % ties: wins minus losses 0.08 on 0.6 untied.
    assert prompts_to_decide(0.54, 0.4) == prompts_needed(0.08, discordant=0.6)
    assert prompts_to_decide(0.46, 0.4) == prompts_to_decide(0.54, 0.4)
    assert prompts_to_decide(0.5, 0.4) is None
    # 2 wins, 10 ties, no loss: all that is not tied is the gap, and 1 - 10 / 12 is a rounding below 2 * 7 / 12 - 1.
    assert 1 - 10 / 12 < 2 * (7 / 12) - 1
    assert prompts_to_decide(7 / 12, 10 / 12) == prompts_needed(1 / 6, discordant=1 / 6)
