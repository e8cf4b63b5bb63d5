"""DPO's losses against numbers worked out by hand."""

import math

import pytest
import torch

from bench.losses.dpo import dpo_loss


def minus_log_sigmoid(x: float) -> float:
    return math.log(1 + math.exp(-x))


def test_dpo_loss_by_hand():
    loss = dpo_loss(
        policy_chosen_logps=torch.tensor([-10.0, -7.0]),
        policy_rejected_logps=torch.tensor([-14.0, -6.0]),
        ref_chosen_logps=torch.tensor([-12.0, -5.0]),
        ref_rejected_logps=torch.tensor([-13.0, -9.0]),
        beta=0.1,
    )
    # chosen logratios 2 and -2, rejected -1 and 3: margins 3 and -5
    assert loss.item() == pytest.approx((minus_log_sigmoid(0.1 * 3) + minus_log_sigmoid(0.1 * -5)) / 2)
