"""bf16 weights over fp32 masters."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from bench.train.master_weights import MasterWeights


def network() -> nn.Linear:
    layer = nn.Linear(8, 4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).bfloat16())  # the same in both types
    return layer


def adamw(parameters) -> AdamW:
    weight, bias = parameters
    return AdamW([{"params": [weight], "weight_decay": 0.1}, {"params": [bias]}], lr=1e-2, eps=1e-5, weight_decay=0.0)


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=generator) for shape in ((4, 8), (4,))]


def take(layer: nn.Module, optimizer, steps, scheduler=None) -> None:
    for step in steps:
        for parameter, gradient in zip(layer.parameters(), gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if scheduler is not None:
            scheduler.step()


def test_masters_go_the_way_of_fp32_weights_and_the_weights_are_their_rounding():
    low, full = network(), network()
    optimizer, plain = MasterWeights(adamw(low.parameters())), adamw(full.parameters())
    schedule = [LambdaLR(o, lambda step: 1 / (1 + step)) for o in (optimizer, plain)]

    take(low, optimizer, range(5), schedule[0])
    take(full, plain, range(5), schedule[1])

    for master, weight, expected in zip(optimizer.masters, low.parameters(), full.parameters(), strict=True):
        assert torch.equal(master, expected)
        assert weight.dtype == torch.bfloat16 and torch.equal(weight, expected.bfloat16())


def test_steps_below_bf16s_resolution_add_up():
    """1 + 2^-10 rounds to 1 in bf16 (8 bits): plain bf16 weights would stand still."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = MasterWeights(SGD([weight], lr=2.0**-10))
    for _ in range(16):
        weight.grad = -torch.ones(1)
        optimizer.step()

    assert optimizer.masters[0].item() == 1 + 16 / 1024 == weight.item()
    weight.grad = -torch.ones(1)
    optimizer.step()
    assert weight.item() == 1 + 16 / 1024  # the 17th is kept in the master alone
    optimizer.restore()
    assert weight.dtype == torch.float32 and weight.item() == 1 + 17 / 1024


@pytest.mark.parametrize(("fp32", "total"), [(True, 1 + 2 * 2.0**-10), (False, 1.0)])
def test_gradients_of_micro_batches_add_up_in_fp32(fp32, total):
    """1 + 2^-10 + 2^-10, added one by one, is 1 in bf16."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = MasterWeights(SGD([weight], lr=1.0), fp32_gradients=fp32)
    for factor in (1.0, 2.0**-10, 2.0**-10):
        (weight * torch.tensor([factor], dtype=torch.bfloat16)).sum().backward()
    assert weight.dtype == torch.bfloat16
    optimizer.step()
    assert optimizer.masters[0].item() == 1 - total


def test_saved_and_loaded_goes_on_as_if_nothing_had_been(tmp_path):
    whole = network()
    optimizer = MasterWeights(adamw(whole.parameters()))
    take(whole, optimizer, range(4))

    first = network()
    before = MasterWeights(adamw(first.parameters()))
    take(first, before, range(2))
    torch.save(before.state_dict(), tmp_path / "optimizer.pt")
    second = copy.deepcopy(first)
    after = MasterWeights(adamw(second.parameters()))
    after.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    take(second, after, range(2, 4))

    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(optimizer.masters, after.masters, strict=True))


def test_a_parameter_without_gradient_stays():
    layer = network()
    optimizer = MasterWeights(adamw(layer.parameters()))
    before = [p.clone() for p in layer.parameters()]
    layer.weight.grad = torch.ones(layer.weight.shape)
    optimizer.step()

    assert not torch.equal(layer.weight, before[0]) and torch.equal(layer.bias, before[1])
