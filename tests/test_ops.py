"""Masked operations by hand."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from bench.ops import inverse_std, masked_mean, next_token_kl, scale_to_unit_variance, whiten


def test_the_annotated_axes_are_checked_in_tests():
    with pytest.raises(TypeCheckError):
        masked_mean(torch.ones(3), torch.ones(2, dtype=torch.bool))


def test_masked_mean_leaves_out_what_the_mask_hides():
    x = torch.tensor([[1.0, 2.0, torch.nan], [4.0, torch.inf, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(x, mask).item() == pytest.approx((1 + 2 + 4) / 3)
    assert masked_mean(x, torch.zeros_like(mask)).item() == 0


def test_whiten_gives_mean_0_and_variance_1_over_the_mask():
    mask = torch.arange(6) < torch.tensor([6, 2, 3])[:, None]
    x = 5 + 3 * torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    x[~mask] = 1e6
    whitened = whiten(x, mask)
    inside = whitened[mask]
    assert inside.mean().item() == pytest.approx(0, abs=1e-6)
    assert inside.square().mean().item() == pytest.approx(1, abs=1e-5)
    assert (whitened[~mask] == 0).all()
    # order and distances are kept: 1 and 3 are one standard deviation from their mean
    torch.testing.assert_close(
        whiten(torch.tensor([[1.0, 3.0, 7.0]]), torch.tensor([[True, True, False]])),
        torch.tensor([[-1.0, 1.0, 0.0]]),
    )


def test_the_inverse_standard_deviation_by_hand():
    x, mask = torch.tensor([[1.0, 5.0, 7e5]]), torch.tensor([[True, True, False]])
    assert inverse_std(x, mask).item() == pytest.approx(1 / 2)  # 1 and 5 are 2 from their mean
    assert torch.isfinite(inverse_std(torch.ones(1, 3), mask))


def test_the_kl_of_next_token_distributions_by_hand():
    """Of one half and one half against one quarter and three: (log(1/2 / 1/4) + log(1/2 / 3/4)) / 2."""
    logits, ref_logits = torch.tensor([[0.5, 0.5], [2.0, 2.0]]).log(), torch.tensor([[0.25, 0.75], [1.0, 1.0]]).log()
    found = next_token_kl(logits, ref_logits)
    assert found[0].item() == pytest.approx((math.log(2) + math.log(2 / 3)) / 2)
    assert found[1].item() == pytest.approx(0, abs=1e-7)


def test_a_token_that_the_policy_rules_out_costs_nothing():
    found = next_token_kl(torch.tensor([0.0, 0.0, -math.inf]), torch.zeros(3))
    assert found.item() == pytest.approx(math.log(3 / 2))  # (1/2) log((1/2)/(1/3)) twice


def test_scaling_to_unit_variance_keeps_the_mean():
    """(1, 3, 8) of mean 4 and variance (9 + 1 + 16) / 3."""
    x, mask = (
        torch.tensor([[1.0, 3.0, 99.0], [8.0, 99.0, 99.0]]),
        torch.tensor([[True, True, False], [True, False, False]]),
    )
    sd = (26 / 3) ** 0.5
    expected = torch.tensor([[4 - 3 / sd, 4 - 1 / sd, 0.0], [4 + 4 / sd, 0.0, 0.0]])
    torch.testing.assert_close(scale_to_unit_variance(x, mask), expected)
