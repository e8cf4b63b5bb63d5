"""PPO's networks: adapters and the shared backbone give the gradients of a plain forward pass."""

from typing import Any

import pytest
import torch
from ppo_world import PROMPTS, add_gradients, full_logps, gradients, make_transformer_trainer, sft_policy
from torch import nn

from bench.losses.ppo import ppo_policy_loss, ppo_value_loss
from bench.train.ppo import PPOTrainer
from bench.train.ppo_experience import Experience
from bench.train.ppo_models import SharedValueHead

ALL = torch.arange(len(PROMPTS))
LORA: dict[str, Any] = {"lora_rank": 2, "lora_alpha": 4}


def perturb(network: nn.Module) -> None:
    """Away from the first weights, where an adapter adds nothing and a shared head says 0."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def parameters(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def moved(network: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}


def policy_loss(trainer: PPOTrainer, experience: Experience) -> torch.Tensor:
    """From the full logits, row by row."""
    logps = full_logps(trainer.models.policy, experience)
    mask = experience.rollout.completion_mask
    return ppo_policy_loss(logps, experience.old_logps, experience.advantages, mask, 0.2).loss


def test_an_adapter_changes_nothing_at_first_and_its_reference_is_the_sft_model(architecture):
    trainer = make_transformer_trainer(architecture, **LORA)
    sft = sft_policy(architecture)
    experience = trainer.collect(PROMPTS)
    with torch.no_grad():
        expected = full_logps(sft, experience)
    torch.testing.assert_close(experience.old_logps, expected, atol=1e-5, rtol=1e-5)
    assert experience.kl.abs().max() < 1e-5

    perturb(trainer.models.policy)
    experience = trainer.collect(PROMPTS)
    with torch.no_grad():
        torch.testing.assert_close(experience.ref_logps, full_logps(sft, experience), atol=1e-5, rtol=1e-5)
    assert experience.kl.abs().max() > 0.1


@pytest.mark.parametrize("kl", ["k1", "full"])
def test_the_adapters_gradient_is_that_of_a_plain_forward_pass(architecture, kl):
    """Switching the adapter between a forward and its backward pass would lose it without an error."""
    trainer = make_transformer_trainer(architecture, kl=kl, beta=0.3, **LORA)
    perturb(trainer.models.policy)
    experience = trainer.collect(PROMPTS)
    add_gradients(trainer, experience, ALL)
    found = gradients(trainer.models.policy)

    trainer.models.policy.zero_grad()
    loss = policy_loss(trainer, experience)
    if kl == "full":
        rollout, sft = experience.rollout, sft_policy(architecture)
        logits, ref_logits = (model(input_ids=rollout.input_ids).logits / 0.7 for model in (trainer.models.policy, sft))
        logps, ref_logps = logits.log_softmax(-1), ref_logits.log_softmax(-1)
        every_kl = (logps.exp() * (logps - ref_logps)).sum(-1)
        row, step = rollout.completion_mask.nonzero(as_tuple=True)
        loss = loss + experience.kl_weight * every_kl[row, rollout.prompt_lengths[row] + step - 1].mean()
    loss.backward()
    assert len(found) > 4 and all(g.abs().max() > 1e-6 for g in found)
    for a, b in zip(found, gradients(trainer.models.policy), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_only_adapters_and_the_value_head_move():
    trainer = make_transformer_trainer(episodes=8, learning_rate=1e-2, **LORA)
    policy, value = trainer.models.policy, trainer.models.value
    before = parameters(policy), parameters(value)
    trainer.train(PROMPTS)
    adapters = {name for name in before[0] if "lora_" in name}
    assert moved(policy, before[0]) == adapters and adapters
    assert moved(value, before[1]) == {name for name in before[1] if "lora_" in name} | {"score.weight"}


def test_the_trained_policy_is_a_plain_model_that_says_the_same(tmp_path, architecture):
    trainer = make_transformer_trainer(architecture, episodes=8, learning_rate=1e-2, **LORA)
    trainer.train(PROMPTS)
    ids = torch.tensor([PROMPTS[0].token_ids])
    with torch.no_grad():
        expected = trainer.models.policy(input_ids=ids).logits
        sft = sft_policy(architecture)(input_ids=ids).logits
        plain = trainer.models.trained_policy()
        plain.save_pretrained(tmp_path)
        loaded = type(plain).from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-5)
    assert (expected - sft).abs().max() > 1e-3
    assert set(dict(loaded.named_parameters())) == set(dict(sft_policy(architecture).named_parameters()))


def test_in_bf16_one_base_lies_beneath_the_adapters(architecture):
    """2 bytes a frozen weight while it trains; in the end the adapters are added to the fp32 ones."""
    trainer = make_transformer_trainer(architecture, episodes=8, learning_rate=1e-2, bf16=True, **LORA)
    assert {p.dtype for p in trainer.models.policy.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert {p.dtype for p in trainer.models.policy.parameters() if p.requires_grad} == {torch.float32}
    trainer.train(PROMPTS)
    plain, sft = trainer.models.trained_policy(), dict(sft_policy(architecture).named_parameters())
    ranks = []
    for name, parameter in plain.named_parameters():
        difference = (parameter.detach() - sft[name]).double()
        ranks.append(int(torch.linalg.matrix_rank(difference, rtol=1e-3)) if parameter.dim() == 2 else 0)
        assert parameter.dtype == torch.float32 and ranks[-1] <= 2
        assert ranks[-1] > 0 or torch.equal(parameter, sft[name]), name
    assert sum(ranks) > 0


@pytest.mark.parametrize("options", [{"value_model": "shared"}, {"value_model": "shared", **LORA}])
def test_a_shared_backbone_gets_both_losses(architecture, options):
    trainer = make_transformer_trainer(architecture, vf_coef=0.4, **options)
    models, head = trainer.models, trainer.models.value
    assert isinstance(head, SharedValueHead)
    assert (trainer.collect(PROMPTS).old_values == 0).all()  # the mean score of reference summaries

    perturb(head)
    perturb(models.policy)
    experience = trainer.collect(PROMPTS)
    rollout, mask = experience.rollout, experience.rollout.completion_mask
    add_gradients(trainer, experience, ALL)
    found = gradients(models.policy) + gradients(head)

    models.policy.zero_grad()
    head.zero_grad()
    states = models.policy(input_ids=rollout.input_ids, output_hidden_states=True).hidden_states[-1]
    row, step = mask.nonzero(as_tuple=True)
    values = torch.zeros(mask.shape).masked_scatter(
        mask, head.score(states[row, rollout.prompt_lengths[row] + step - 1])[:, 0]
    )
    torch.testing.assert_close(experience.old_values, values.detach(), atol=1e-5, rtol=1e-5)
    value_loss = ppo_value_loss(values, experience.old_values, experience.returns, mask, 0.2)
    (policy_loss(trainer, experience) + 0.4 * value_loss).backward()
    for a, b in zip(found, gradients(models.policy) + gradients(head), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "networks"),
    [({}, 4), ({"value_model": "shared"}, 3), (LORA, 3), ({"value_model": "shared", **LORA}, 2)],
)
def test_networks_in_memory(options, networks):
    assert make_transformer_trainer(**options).models.count == networks


def test_the_adapters_first_weights_follow_the_seed_alone():
    first = make_transformer_trainer(**LORA).models.policy
    torch.manual_seed(99)
    again = make_transformer_trainer(**LORA).models.policy
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
