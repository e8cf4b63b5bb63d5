"""DPO's losses against numbers worked out by hand."""

import math

import pytest
import torch

from bench.losses.dpo import LOSSES, LogRatios, dpo_loss, sft_loss
from bench.train.settings.dpo import DPO_LOSSES

CHOSEN, REJECTED = (2.0, -2.0), (-1.0, 3.0)  # log-ratios: margins 3 and -5
CHOSEN_TOKENS, REJECTED_TOKENS = (4, 1), (2, 3)  # margins per token 2/4 + 1/2 = 1 and -2/1 - 3/3 = -3
BETA, FLIPPED = 0.1, 0.2


def minus_log_sigmoid(x: float) -> float:
    return math.log(1 + math.exp(-x))


def robust(margin: float) -> float:
    """What is expected of the plain loss with a fifth of the labels flipped is that of the plain loss with none."""
    kept, flipped = minus_log_sigmoid(BETA * margin), minus_log_sigmoid(-BETA * margin)
    return ((1 - FLIPPED) * kept - FLIPPED * flipped) / (1 - 2 * FLIPPED)


def cdpo(margin: float) -> float:
    """Four fifths of the plain loss, and a fifth of that of the other label."""
    return 0.8 * minus_log_sigmoid(BETA * margin) + 0.2 * minus_log_sigmoid(-BETA * margin)


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("sigmoid", [cdpo(3), cdpo(-5)]),
        ("sigmoid_norm", [minus_log_sigmoid(0.1 * 1), minus_log_sigmoid(0.1 * -3)]),
        ("ipo", [(1 - 5) ** 2, (-3 - 5) ** 2]),  # 1 / (2 beta) = 5
        ("hinge", [1 - 0.1 * 3, 1 - 0.1 * -5]),
        ("robust", [robust(3), robust(-5)]),
    ],
)
def test_each_type_by_hand(loss_type, expected):
    ratios = LogRatios(*map(torch.tensor, (CHOSEN, REJECTED, CHOSEN_TOKENS, REJECTED_TOKENS)))
    found = LOSSES[loss_type](ratios, BETA, FLIPPED)
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert dpo_loss(ratios, BETA, loss_type, FLIPPED).item() == pytest.approx(sum(expected) / 2, rel=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, FLIPPED])
def test_the_sigmoid_loss_is_least_where_labels_may_be_flipped(label_smoothing):
    """Without, it falls for ever; with a fifth, at a margin of log(.8 / .2) / beta, where sigma(beta margin) is .8."""
    margin = torch.tensor([math.log(4) / BETA], requires_grad=True)
    one = torch.tensor([1])
    dpo_loss(LogRatios(margin, torch.zeros(1), one, one), BETA, "sigmoid", label_smoothing).backward()
    assert margin.grad is not None
    assert margin.grad.item() == pytest.approx(0.0 if label_smoothing else -BETA * 0.2, abs=1e-7)


def test_the_sft_term_is_a_mean_over_tokens():
    """Chosen summaries of 2, 1 and 3 tokens, of which a micro-batch holds the first two: 6 tokens in all."""
    logps, mean_tokens = torch.tensor([-3.0, -0.5, -4.0]), torch.tensor(2.0)
    parts = sft_loss(logps[:2], mean_tokens) * 2 / 3 + sft_loss(logps[2:], mean_tokens) / 3
    assert parts.item() == pytest.approx(7.5 / 6) and sft_loss(logps, mean_tokens).item() == pytest.approx(7.5 / 6)


def test_the_hinge_is_satisfied_by_a_margin_of_one_over_beta():
    ratios = LogRatios(torch.tensor([10.5]), torch.tensor([0.0]), torch.tensor([1]), torch.tensor([1]))
    assert LOSSES["hinge"](ratios, 0.1, 0.0).item() == 0


def test_the_robust_loss_is_unbiased_under_flipped_labels():
    """The mean over labels, a fifth of them flipped, is the plain loss of the true ones."""
    chosen, rejected, tokens = torch.tensor([2.0]), torch.tensor([-1.0]), torch.tensor([1])
    as_labelled = LOSSES["robust"](LogRatios(chosen, rejected, tokens, tokens), BETA, FLIPPED).item()
    swapped = LOSSES["robust"](LogRatios(rejected, chosen, tokens, tokens), BETA, FLIPPED).item()
    assert (1 - FLIPPED) * as_labelled + FLIPPED * swapped == pytest.approx(minus_log_sigmoid(BETA * 3), rel=1e-6)


def test_the_settings_know_every_type():
    assert set(DPO_LOSSES) == set(LOSSES)
