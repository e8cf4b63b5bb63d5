"""Forward passes against the models' own full logits, row by row without padding."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench import forward
from bench.forward import (
    completion_hidden,
    completion_values,
    last_token_scores,
    lm_head,
    logps_and_entropy,
    scatter,
    scatter_states,
    token_kl,
    token_logps_and_entropy,
)
from bench.records import Rows

PAD = 0


def ragged_batch(extra_columns: int = 0) -> Rows:
    """Three rows with prompts of 5, 1 and 3 tokens and completions of 2, 4 and 1, as the sampler lays them out."""
    generator = torch.Generator().manual_seed(0)
    prompt_lengths, lengths = torch.tensor([5, 1, 3]), torch.tensor([2, 4, 1])
    input_ids = torch.full((3, 7 + extra_columns), PAD)
    completion_ids = torch.full((3, 4 + extra_columns), PAD)
    for row, (prompt, completion) in enumerate(zip(prompt_lengths, lengths, strict=True)):
        tokens = torch.randint(2, 300, (int(prompt + completion),), generator=generator)
        input_ids[row, : len(tokens)] = tokens
        completion_ids[row, :completion] = tokens[prompt:]
    mask = torch.arange(4 + extra_columns) < lengths[:, None]
    return Rows(input_ids, prompt_lengths, completion_ids, mask)


def full_logps_and_entropy(model, batch: Rows, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Row by row without padding, from the whole vocabulary's logits."""
    logps, entropy = (torch.zeros(batch.completion_mask.shape) for _ in range(2))
    for row, (prompt, length) in enumerate(
        zip(batch.prompt_lengths.tolist(), batch.completion_mask.sum(1).tolist(), strict=True)
    ):
        ids = batch.input_ids[row : row + 1, : prompt + length]
        distribution = (model(input_ids=ids).logits[0] / temperature).log_softmax(-1)
        for step in range(length):
            at = distribution[prompt + step - 1]
            logps[row, step] = at[batch.completion_ids[row, step]]
            entropy[row, step] = -(at.exp() * at).sum()
    return logps, entropy


def test_scatter_is_the_inverse_of_picking_by_mask():
    mask = torch.tensor([[True, False, True], [False, False, True]])
    x = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    torch.testing.assert_close(scatter(x[mask], mask), x)


def test_scatter_states_is_the_inverse_of_picking_by_mask():
    mask = torch.tensor([[True, False, True], [False, False, True]])
    x = torch.arange(12.0).reshape(2, 3, 2) * mask[..., None]
    assert torch.equal(scatter_states(x[mask], mask), x)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_kl_and_its_gradient_equal_those_of_the_full_logits(make_policy, architecture, temperature):
    ref_policy, batch = make_policy(architecture, seed=1), ragged_batch()
    mask = batch.completion_mask
    weights = torch.randn(mask.shape, generator=torch.Generator().manual_seed(2))
    row, step = mask.nonzero(as_tuple=True)
    at = row, batch.prompt_lengths[row] + step - 1

    def by_op(policy):
        states = [completion_hidden(m.base_model, batch) for m in (policy, ref_policy)]
        return token_kl(states[0], lm_head(policy), states[1].detach(), lm_head(ref_policy), mask, temperature)

    def from_full_logits(policy):
        logps, ref_logps = (
            (m(input_ids=batch.input_ids).logits[at] / temperature).log_softmax(-1) for m in (policy, ref_policy)
        )
        return scatter((logps.exp() * (logps - ref_logps)).sum(-1), mask)

    results, gradients = [], []
    for compute in (by_op, from_full_logits):
        policy = make_policy(architecture)
        kl = compute(policy)
        (weights * kl).sum().backward()
        results.append(kl.detach())
        gradients.append([p.grad for p in policy.parameters()])
    assert results[0][mask].min() > 0.1 and (results[0][~mask] == 0).all()
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logps_and_entropy_equal_those_of_the_full_logits(make_policy, architecture, temperature):
    model, batch = make_policy(architecture), ragged_batch()
    logps, entropy = logps_and_entropy(model, batch, temperature)
    expected_logps, expected_entropy = full_logps_and_entropy(model, batch, temperature)
    assert expected_entropy[batch.completion_mask].max() < 5  # far from uniform: log 300 is 5.7
    torch.testing.assert_close(logps, expected_logps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, expected_entropy, atol=1e-5, rtol=1e-5)


def test_gradient_of_the_logps_equals_that_of_the_full_logits(make_policy, architecture):
    batch = ragged_batch()
    weights = torch.randn(batch.completion_mask.shape, generator=torch.Generator().manual_seed(2))
    gradients = []
    for compute in (
        lambda m: logps_and_entropy(m, batch, 0.7),
        lambda m: full_logps_and_entropy(m, batch, 0.7),
    ):
        model = make_policy(architecture)
        (weights * compute(model)[0]).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_values_and_scores_equal_the_classifiers_own_at_each_prefix(make_classifier, architecture):
    """The classifier pools at the last token of what it is given: the prefix before a completion token is V's state."""
    model, batch = make_classifier(architecture), ragged_batch()
    values = completion_values(model, batch)
    lengths = batch.prompt_lengths + batch.completion_mask.sum(1)
    scores = last_token_scores(model, batch.input_ids, lengths)
    for row, (prompt, whole) in enumerate(zip(batch.prompt_lengths.tolist(), lengths.tolist(), strict=True)):
        own = [model(input_ids=batch.input_ids[row : row + 1, :n]).logits.item() for n in range(prompt, whole + 1)]
        assert values[row, : whole - prompt].tolist() == pytest.approx(own[:-1], abs=1e-5)
        assert (values[row, whole - prompt :] == 0).all()
        assert scores[row].item() == pytest.approx(own[-1], abs=1e-5)
    # and the whole right-padded batch at once, as transformers does it
    attention_mask = (torch.arange(batch.input_ids.size(1)) < lengths[:, None]).long()
    batched = model(input_ids=batch.input_ids, attention_mask=attention_mask).logits.squeeze(-1)
    torch.testing.assert_close(scores, batched, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_more_padding_changes_nothing(make_policy, make_classifier, architecture):
    policy, classifier = make_policy(architecture), make_classifier(architecture)
    batch, padded = ragged_batch(), ragged_batch(extra_columns=3)
    steps = batch.completion_mask.size(1)
    for plain, wide in zip(logps_and_entropy(policy, batch), logps_and_entropy(policy, padded), strict=True):
        torch.testing.assert_close(wide[:, :steps], plain, atol=1e-6, rtol=1e-6)
        assert (wide[:, steps:] == 0).all()
    values, wide_values = (completion_values(classifier, b) for b in (batch, padded))
    torch.testing.assert_close(wide_values[:, :steps], values, atol=1e-6, rtol=1e-6)
    lengths = batch.prompt_lengths + batch.completion_mask.sum(1)
    torch.testing.assert_close(
        last_token_scores(classifier, padded.input_ids, lengths),
        last_token_scores(classifier, batch.input_ids, lengths),
        atol=1e-6,
        rtol=1e-6,
    )


def a_head(dtype: torch.dtype, bias: bool = False) -> nn.Linear:
    head = nn.Linear(16, 50, bias=bias)
    generator = torch.Generator().manual_seed(3)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype)
    return head


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_held_a_few_tokens_at_a_time(size, bias, monkeypatch):
    """Values and gradients are those of all the logits at once, whatever the size of a chunk."""
    head, batch, held = a_head(torch.float32, bias), ragged_batch(), []
    batch.completion_ids.clamp_(max=49)
    tokens = batch.completion_ids[batch.completion_mask]
    hidden = torch.randn(len(tokens), 16, generator=torch.Generator().manual_seed(4), requires_grad=True)
    weights = torch.randn(len(tokens), generator=torch.Generator().manual_seed(5))
    product = forward._product

    def watched(a, b):
        result = product(a, b)
        if result.size(-1) == 50:
            held.append(len(result))
        return result

    monkeypatch.setattr(forward, "_product", watched)
    monkeypatch.setattr(forward, "_LOGITS", 50 * size)
    logps, _ = token_logps_and_entropy(hidden, head, batch)
    (logps[batch.completion_mask] * weights).sum().backward()
    found = [hidden.grad, *(p.grad for p in head.parameters())]
    assert max(held) == min(size, 7)  # of the 7 completion tokens

    alone = hidden.detach().requires_grad_()
    own = a_head(torch.float32, bias)
    expected = F.linear(alone, own.weight, own.bias).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    (expected * weights).sum().backward()
    torch.testing.assert_close(logps[batch.completion_mask], expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(found, [alone.grad, *(p.grad for p in own.parameters())], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_logits_of_bf16_states_and_weights_are_not_rounded(autocast):
    """Against fp64 of the same numbers: bf16 logits would be off by up to 1/256 of their size."""
    head, batch = a_head(torch.bfloat16), ragged_batch()
    batch.completion_ids.clamp_(max=49)
    tokens = batch.completion_ids[batch.completion_mask]
    hidden = torch.randn(len(tokens), 16, generator=torch.Generator().manual_seed(4)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, _ = token_logps_and_entropy(hidden, head, batch, temperature=0.7)

    logits = hidden.double() @ head.weight.double().T / 0.7
    expected = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    rounded = logits.bfloat16().double().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    assert found.dtype is torch.float32
    torch.testing.assert_close(found[batch.completion_mask].double(), expected, atol=1e-5, rtol=1e-5)
    assert (rounded - expected).abs().max() > 1e-2
