"""PPO's page of equations against numbers worked out by hand, and the gradients that make them what they are."""

import math

import pytest
import torch

from bench.losses.ppo import (
    future_kl,
    generalized_advantages,
    missing_eos_scores,
    ppo_policy_loss,
    ppo_value_loss,
    token_rewards,
)


@pytest.mark.parametrize(
    ("penalty", "how", "expected"),
    [(-1.0, "replace", [2.0, -1.0]), (-1.0, "subtract", [2.0, 0.5 - 1.0]), (None, "replace", [2.0, 0.5])],
)
def test_a_missing_eos_costs_the_unfinished_alone(penalty, how, expected):
    found = missing_eos_scores(torch.tensor([2.0, 0.5]), torch.tensor([True, False]), penalty, how)
    assert found.tolist() == expected


def test_token_rewards_by_hand():
    rewards = token_rewards(
        scores=torch.tensor([2.0, -1.0]),
        kl=torch.tensor([[0.5, -1.0, 0.0], [-2.0, 9.0, 9.0]]),
        mask=torch.tensor([[True, True, True], [True, False, False]]),
        beta=0.1,
    )
    # the score stands on each row's last token
    torch.testing.assert_close(rewards, torch.tensor([[-0.05, 0.1, 0.0 + 2.0], [0.2 - 1.0, 0.0, 0.0]]))


def test_future_kl_by_hand():
    found = future_kl(torch.tensor([[1.0, 2.0, 4.0], [3.0, 0.0, 0.0]]), gamma=0.5)
    assert found.tolist() == [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]


def random_episodes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = [5, 1, 3]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    rewards, values = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    rewards[~mask], values[~mask] = 99.0, -99.0  # would show if it leaked in
    return rewards, values, mask, lengths


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.8), (0.9, 0.0)])
def test_advantages_are_the_double_sum_over_ragged_rows(gamma, lam):
    rewards, values, mask, lengths = random_episodes()
    advantages, returns = generalized_advantages(rewards, values, mask, gamma, lam)
    for row, length in enumerate(lengths):
        for t in range(5):
            if t >= length:
                assert advantages[row, t] == 0 and returns[row, t] == 0
                continue
            expected = 0.0
            for k in range(t, length):
                next_value = values[row, k + 1].item() if k + 1 < length else 0.0
                delta = rewards[row, k].item() + gamma * next_value - values[row, k].item()
                expected += (gamma * lam) ** (k - t) * delta
            assert advantages[row, t].item() == pytest.approx(expected, abs=1e-5)
            assert returns[row, t].item() == pytest.approx(expected + values[row, t].item(), abs=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_with_lambda_1_returns_are_the_rewards_to_go(gamma):
    rewards, values, mask, lengths = random_episodes()
    _, returns = generalized_advantages(rewards, values, mask, gamma, lam=1.0)
    for row, length in enumerate(lengths):
        for t in range(length):
            to_go = sum(gamma ** (k - t) * rewards[row, k].item() for k in range(t, length))
            assert returns[row, t].item() == pytest.approx(to_go, abs=1e-5)


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
