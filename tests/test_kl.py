"""Both estimators against the KL of sequence distributions, enumerating every sequence of a small world."""

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from bench.errors import ConfigError
from bench.kl import kl_exact, kl_exact_from_hidden, kl_k1

EOS, V = 0, 3
SEQUENCES = [(EOS,), *((first, second) for first in range(1, V) for second in range(V))]
"""All completions of at most two tokens: EOS ends one early."""


def random_policy(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the first token (V,), and of the second given the first (V, V)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(V, generator=generator), 2 * torch.randn(V, V, generator=generator)


def logits_along(policy: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """(sequences, 2, V); what stands after EOS is noise that the mask has to hide."""
    first, second = policy
    return torch.stack([torch.stack([first, second[sequence[0]]]) for sequence in SEQUENCES])


def token_logps(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """(sequences, 2) log-prob of each token; of the padding too, with a value that would show if counted."""
    tokens = torch.tensor([[*sequence, 1][:2] for sequence in SEQUENCES])
    return (logits / temperature).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


MASK = torch.tensor([[True, len(sequence) == 2] for sequence in SEQUENCES])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_expectation_of_both_estimators_is_the_kl_of_sequences(seed, temperature):
    policy, ref = logits_along(random_policy(seed)), logits_along(random_policy(seed + 100))
    logps, ref_logps = token_logps(policy, temperature), token_logps(ref, temperature)
    sequence_logps = torch.stack([row[mask].sum() for row, mask in zip(logps, MASK, strict=True)])
    ref_sequence_logps = torch.stack([row[mask].sum() for row, mask in zip(ref_logps, MASK, strict=True)])
    probabilities = sequence_logps.exp()
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-6)
    true_kl = (probabilities * (sequence_logps - ref_sequence_logps)).sum()
    assert true_kl > 0.05

    k1 = kl_k1(logps, ref_logps, MASK)
    exact = kl_exact(policy, ref, MASK, temperature)

    torch.testing.assert_close((probabilities * k1).sum(), true_kl)
    torch.testing.assert_close((probabilities * exact).sum(), true_kl)
    assert (exact >= 0).all() and (k1 < 0).any()


def test_chunks_from_hidden_states_give_the_same_without_ever_holding_more():
    generator = torch.Generator().manual_seed(0)
    policy_hidden, ref_hidden = (
        torch.randn(4, 5, 8, generator=generator),
        torch.randn(4, 5, 6, generator=generator),
    )
    policy_head, ref_head = torch.nn.Linear(8, 11), torch.nn.Linear(6, 11, bias=False)
    lengths = torch.tensor([5, 1, 0, 3])
    mask = torch.arange(5) < lengths[:, None]
    seen = []

    def watched_head(hidden):
        seen.append(len(hidden))
        return policy_head(hidden)

    found = kl_exact_from_hidden(
        policy_hidden, watched_head, ref_hidden, ref_head, mask, temperature=0.7, chunk_tokens=4
    )

    expected = kl_exact(policy_head(policy_hidden), ref_head(ref_hidden), mask, temperature=0.7)
    torch.testing.assert_close(found, expected.detach())
    assert found[2] == 0  # an empty completion
    assert seen == [4, 4, 1]  # the 9 tokens of the mask


def test_half_precision_logits_are_compared_in_full_precision():
    policy = torch.tensor([[[0.0, 0.0]]], dtype=torch.bfloat16)
    ref = torch.tensor([[[0.0, 0.0625]]], dtype=torch.bfloat16)  # exact in bfloat16, its KL of 5e-4 is not
    # KL of the uniform distribution on two from (1 - s, s): -log 2 - (log(1 - s) + log s) / 2, s the sigmoid
    s = torch.tensor(0.0625, dtype=torch.float64).sigmoid()
    expected = -torch.log(torch.tensor(2.0, dtype=torch.float64)) - ((1 - s).log() + s.log()) / 2
    found = kl_exact(policy, ref, torch.tensor([[True]]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)


def test_token_that_the_policy_rules_out_costs_nothing():
    inf = float("inf")
    policy = torch.tensor([[[0.0, 0.0, -inf]]])
    ref = torch.tensor([[[0.0, 0.0, 0.0]]])
    found = kl_exact(policy, ref, torch.tensor([[True]]))
    assert found.item() == pytest.approx(torch.log(torch.tensor(3 / 2)).item())  # (1/2) log((1/2)/(1/3)) twice


def test_greedy_decoding_has_no_kl():
    logits = torch.zeros(1, 1, V)
    with pytest.raises(ConfigError, match="above 0 to measure KL, got 0"):
        kl_exact(logits, logits, torch.tensor([[True]]), temperature=0)


def test_mask_of_another_shape_is_caught_by_the_annotations():
    checked = jaxtyped(typechecker=beartype)(kl_k1)
    with pytest.raises(TypeCheckError):
        checked(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 1, dtype=torch.bool))
