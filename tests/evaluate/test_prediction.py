"""The range of a further run, by hand and by how often it holds one."""

import math

import numpy as np
import pytest

from bench.evaluate.prediction import range_of_a_further_run


def expit(x):
    return 1 / (1 + np.exp(-x))


def test_three_seeds_by_hand():
    # Logits 0, 1, 2: mean 1, sd 1. Student's t with 2 degrees of freedom has the quantile (2p - 1) / sqrt(2p(1 - p)).
    t = 0.95 / math.sqrt(2 * 0.975 * 0.025)
    half = t * math.sqrt(1 + 1 / 3)

    found = range_of_a_further_run([0.5, expit(1), expit(2)], 0.95)

    assert found == pytest.approx((expit(1 - half), expit(1 + half)), rel=1e-9)


def test_it_holds_a_further_run_as_often_as_it_says():
    logits = np.random.default_rng(0).normal(1.0, 0.4, (2000, 9))
    held = [
        low < shares[-1] < high for shares in expit(logits) for low, high in [range_of_a_further_run(shares[:-1], 0.95)]
    ]

    assert np.mean(held) == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))  # three standard errors
