"""The losses against numbers worked out by hand, and the gradients that make them what they are."""

import math

import pytest
import torch

from bench.losses import dpo_loss, ppo_policy_loss, ppo_value_loss, reward_loss


def minus_log_sigmoid(x: float) -> float:
    return math.log(1 + math.exp(-x))


def test_reward_loss_by_hand():
    loss = reward_loss(torch.tensor([1.5, -0.5]), torch.tensor([0.5, 1.5]))
    # margins 1.5 - 0.5 = 1 and -0.5 - 1.5 = -2
    assert loss.item() == pytest.approx((minus_log_sigmoid(1) + minus_log_sigmoid(-2)) / 2)


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


def test_policy_gradient_at_ratio_1_is_the_reinforce_gradient():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=generator).requires_grad_()
    tokens = torch.randint(5, (2, 3), generator=generator)
    advantages = torch.randn(2, 3, generator=generator)
    mask = torch.tensor([[True, True, True], [True, False, False]])

    logps = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    (found,) = torch.autograd.grad(ppo_policy_loss(logps, logps.detach(), advantages, mask, 0.2).loss, logits)

    # d(-A log pi(token) / N) / d logits = -A (one_hot(token) - pi) / N over the N = 4 tokens
    one_hot = torch.nn.functional.one_hot(tokens, 5)
    expected = -advantages[..., None] * (one_hot - logits.softmax(-1)) / 4
    expected[~mask] = 0
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [
        (1.5, 2.0, 0.0),  # above the range and the advantage pulls further up: cut
        (1.5, -2.0, 2.0 * 1.5),  # d(-A rho) / d log pi = -A rho: pulled back in
        (0.5, -2.0, 0.0),  # below the range and pushed further down: cut
        (0.5, 2.0, -2.0 * 0.5),
        (1.1, 2.0, -2.0 * 1.1),  # inside the range
    ],
)
def test_gradient_is_cut_on_the_clipped_side_only(ratio, advantage, gradient):
    logps = torch.tensor([[-1.0 + math.log(ratio)]], requires_grad=True)
    loss = ppo_policy_loss(logps, torch.tensor([[-1.0]]), torch.tensor([[advantage]]), torch.tensor([[True]]), 0.2).loss
    loss.backward()
    assert logps.grad.item() == pytest.approx(gradient, rel=1e-5)


def test_policy_loss_and_its_diagnostics_by_hand():
    old_logps = torch.tensor([[-1.0, -2.0, -3.0, -1.0]])
    logps = old_logps + torch.tensor([[math.log(1.5), math.log(0.9), math.log(0.5), 7.0]])
    advantages = torch.tensor([[1.0, 1.0, 2.0, 50.0]])
    mask = torch.tensor([[True, True, True, False]])
    found = ppo_policy_loss(logps, old_logps, advantages, mask, 0.2)
    # min(rho A, clip(rho) A): 1.2 x 1 (clipped), 0.9 x 1, 0.5 x 2 (the unclipped one is the smaller)
    assert found.loss.item() == pytest.approx(-(1.2 + 0.9 + 1.0) / 3)
    # k3: rho - 1 - log rho
    k3 = [rho - 1 - math.log(rho) for rho in (1.5, 0.9, 0.5)]
    assert found.approx_kl.item() == pytest.approx(sum(k3) / 3)
    assert found.clip_fraction.item() == pytest.approx(2 / 3)
    assert found.ratio_max.item() == pytest.approx(1.5)


def test_the_expected_approx_kl_is_the_kl():
    """k3 under the rollout policy, summed over a vocabulary of 5: KL(rollout policy || policy)."""
    old, new = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    expected = (old.exp() * (old - new)).sum().item()
    found = sum(
        old[token].exp().item()
        * ppo_policy_loss(
            new[token].view(1, 1), old[token].view(1, 1), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), 0.2
        ).approx_kl.item()
        for token in range(5)
    )
    assert expected > 0.1
    assert found == pytest.approx(expected, rel=1e-5)


def test_value_loss_by_hand_and_its_gradient():
    values = torch.tensor([[1.5, 1.5, 1.1, 40.0]], requires_grad=True)
    old_values = torch.ones(1, 4)
    returns = torch.tensor([[2.0, 1.2, 2.0, 0.0]])
    mask = torch.tensor([[True, True, True, False]])
    loss = ppo_value_loss(values, old_values, returns, mask, clip_range=0.2)
    # Clipped to 1.2 in the first two: the larger of (1.5 - 2)^2 and (1.2 - 2)^2, of (1.5 - 1.2)^2 and (1.2 - 1.2)^2;
    # 1.1 lies inside the range.
    assert loss.item() == pytest.approx(0.5 * (0.8**2 + 0.3**2 + 0.9**2) / 3)
    loss.backward()
    # d(0.5 (v - R)^2 / 3) = (v - R) / 3, and nothing where the clipped error is the larger
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, 0.3 / 3, -0.9 / 3, 0.0]]))
