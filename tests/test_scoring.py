"""The evaluator's forward passes against the full logits of each row alone, and its KL against enumeration."""

import copy
import itertools

import pytest
import torch

from bench.encoding import encode
from bench.evaluate.statistics import bootstrap_mean, paired_difference
from bench.generation import SamplingConfig, sample_all
from bench.models.loading import RewardModel
from bench.scoring import completion_scores, reward_scores, summed_logps

PAIRS = [
    ("POST: the cat sat on the mat. TL;DR:", "the cat slept."),
    ("POST: a dog. TL;DR:", "the dog lost the red ball in the river"),
    ("POST: my friend baked a cake for the party. TL;DR:", "no sugar"),
    ("TL;DR:", "cake"),
    ("POST: nothing at all. TL;DR:", ""),
]


@pytest.fixture
def completions(tokenizer):
    return [encode(tokenizer, *pair)[0] for pair in PAIRS]


@torch.no_grad()
def full_logps(model, tokens, temperature: float) -> torch.Tensor:
    """(completion tokens, V) log-probs of one row without padding."""
    prompt, completion = tokens
    logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logps_and_kl_equal_those_of_the_full_logits(make_policy, architecture, tokenizer, completions, temperature):
    policy, ref_policy = make_policy(architecture, 0), make_policy(architecture, 1)
    scores = completion_scores(policy, ref_policy, tokenizer, completions, temperature, batch_size=2)
    for score, tokens in zip(scores, completions, strict=True):
        logps, ref_logps = (full_logps(m, tokens, temperature) for m in (policy, ref_policy))
        steps, ids = range(len(tokens[1])), tokens[1]
        assert score.logp == pytest.approx(logps[steps, ids].sum().item(), rel=1e-5, abs=1e-4)
        assert score.ref_logp == pytest.approx(ref_logps[steps, ids].sum().item(), rel=1e-5, abs=1e-4)
        kl = (logps.exp() * (logps - ref_logps)).sum().item()
        assert score.kl == pytest.approx(kl, rel=1e-4) and kl > 0.1


def test_greedy_completions_have_unscaled_logps_and_no_kl(make_policy, tokenizer, completions):
    policy = make_policy()
    done: list[int] = []
    scores = completion_scores(policy, policy, tokenizer, completions, 0.0, batch_size=2, on_batch=done.append)
    assert sum(done) == len(PAIRS) and max(done) == 2
    for score, tokens in zip(scores, completions, strict=True):
        expected = full_logps(policy, tokens, 1.0)[range(len(tokens[1])), tokens[1]].sum().item()
        assert score.logp == pytest.approx(expected, rel=1e-5, abs=1e-4) and score.kl is None


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_summed_logps_whatever_the_batch(make_policy, architecture, tokenizer, completions, batch_size):
    policy = make_policy(architecture)
    found = summed_logps(policy, tokenizer, PAIRS, batch_size)
    expected = [full_logps(policy, t, 1.0)[range(len(t[1])), t[1]].sum().item() for t in completions]
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@torch.no_grad()
def test_rewards_are_the_shifted_scores_at_the_eos_whatever_the_batch(
    make_classifier, architecture, tokenizer, completions, batch_size
):
    model = make_classifier(architecture)
    done: list[int] = []
    found = reward_scores(RewardModel(model, shift=0.75), tokenizer, PAIRS, batch_size, done.append)
    expected = [
        model(input_ids=torch.tensor([[*prompt, *completion]])).logits.item() - 0.75
        for prompt, completion in completions
    ]
    assert found == pytest.approx(expected, abs=1e-4)
    assert sum(done) == len(PAIRS) and max(done) <= batch_size


EOS, VOCABULARY, LIMIT = 1, 4, 3
SEQUENCES = [
    [*body, last]
    for length in range(1, LIMIT + 1)
    for body in itertools.product([i for i in range(VOCABULARY) if i != EOS], repeat=length - 1)
    for last in ([EOS] if length < LIMIT else range(VOCABULARY))
]
"""Everything that can be sampled in at most three tokens: EOS ends a completion early."""


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_both_estimates_of_two_models_have_their_kl_by_enumeration_as_expectation(
    make_policy, tokenizer, architecture, temperature
):
    policy, ref_policy = (make_policy(architecture, seed) for seed in (0, 1))
    for model in (policy, ref_policy):
        model.resize_token_embeddings(VOCABULARY)
    tokens = [([2, 3], sequence) for sequence in SEQUENCES]
    logp, ref_logp = (
        torch.tensor([full_logps(m, t, temperature)[range(len(t[1])), t[1]].sum() for t in tokens])
        for m in (policy, ref_policy)
    )
    assert logp.exp().sum().item() == pytest.approx(1, abs=1e-5)
    kl = (logp.exp() * (logp - ref_logp)).sum().item()
    assert kl > 0.05

    scores = completion_scores(policy, ref_policy, tokenizer, tokens, temperature, batch_size=16)

    k1 = [score.logp - score.ref_logp for score in scores]
    exact = [score.kl for score in scores if score.kl is not None]
    for estimates in (k1, exact):
        assert (logp.exp() * torch.tensor(estimates)).sum().item() == pytest.approx(kl, rel=1e-4)
    assert min(exact) >= 0 > min(k1)


def test_both_estimates_agree_within_their_intervals_on_samples_of_a_trained_policy(make_policy, tokenizer):
    ref_policy = make_policy()
    policy = copy.deepcopy(ref_policy).train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    ids = torch.tensor([[*prompt, *completion] for prompt, completion in encode(tokenizer, *PAIRS[1])])
    for _ in range(6):
        policy(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    policy.eval()
    prompts = [tokenizer(prompt).input_ids for prompt, _ in PAIRS[:4]] * 50
    sampled = sample_all(
        policy,
        tokenizer,
        prompts,
        sampling=SamplingConfig(temperature=0.7, batch_size=100),
        max_new_tokens=10,
        generator=torch.Generator().manual_seed(0),
    )
    tokens = [(prompt, completion) for prompt, (completion, _) in zip(prompts, sampled, strict=True)]
    scores = completion_scores(policy, ref_policy, tokenizer, tokens, 0.7, batch_size=100)

    k1 = [score.logp - score.ref_logp for score in scores]
    exact = [score.kl for score in scores if score.kl is not None]
    found, found_exact = bootstrap_mean(k1, seed=0), bootstrap_mean(exact, seed=0)
    assert found_exact.low > 0.5
    assert found.low <= found_exact.high and found_exact.low <= found.high
    difference = paired_difference(k1, exact, seed=0)
    assert difference.low < 0 < difference.high
    assert found_exact.high - found_exact.low < found.high - found.low  # what the exact sum is for
    wrong = completion_scores(policy, ref_policy, tokenizer, tokens, 1.0, batch_size=100)
    k1 = [score.logp - score.ref_logp for score in wrong]
    exact = [score.kl for score in wrong if score.kl is not None]
    difference = paired_difference(k1, exact, seed=0)
    assert difference.low > 0 or difference.high < 0  # another temperature shows
