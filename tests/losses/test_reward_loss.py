"""The reward model's loss by hand."""

import math

import pytest
import torch

from bench.losses.reward import reward_loss


def minus_log_sigmoid(x: float) -> float:
    return math.log(1 + math.exp(-x))


def test_reward_loss_by_hand():
    loss = reward_loss(torch.tensor([1.5, -0.5]), torch.tensor([0.5, 1.5]))
    # margins 1.5 - 0.5 = 1 and -0.5 - 1.5 = -2
    assert loss.item() == pytest.approx((minus_log_sigmoid(1) + minus_log_sigmoid(-2)) / 2)
