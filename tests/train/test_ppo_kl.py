"""The KL of PPO: both estimators' gradients against the true one by enumeration, their variance, and the target."""

import itertools

import pytest
import torch
from ppo_world import EOS, PAD, PROMPTS, ScoreByToken, add_gradients, full_logps, gradients, make_trainer, small_policy

from bench.models.loading import RewardModel
from bench.ops import inverse_std
from bench.records import Rollout
from bench.train.kl_control import KLController
from bench.train.ppo import PPOTrainer
from bench.train.ppo_experience import Experience, Forwards, learnt_from
from bench.train.ppo_models import PPOModels

PROMPT = [2, 0]
VOCABULARY, STEPS = 3, 3
TEMPERATURE = 0.7


def every_completion() -> Rollout:
    """All completions of at most 3 tokens: they end at EOS or at the limit."""
    rows = [
        list(tokens)
        for length in range(1, STEPS + 1)
        for tokens in itertools.product(range(VOCABULARY), repeat=length)
        if EOS not in tokens[:-1] and (tokens[-1] == EOS or length == STEPS)
    ]
    mask = torch.arange(STEPS) < torch.tensor([len(row) for row in rows])[:, None]
    completions = torch.tensor([row + [PAD] * (STEPS - len(row)) for row in rows])
    prompts = torch.tensor(PROMPT).expand(len(rows), -1)
    return Rollout(
        input_ids=torch.cat([prompts, completions], 1),
        prompt_lengths=torch.full((len(rows),), len(PROMPT)),
        completion_ids=completions,
        completion_mask=mask,
        logps=torch.zeros(mask.shape),
        is_finished=torch.tensor([row[-1] == EOS for row in rows]),
    )


def enumerated(kl: str, seed: int = 0, architecture: str = "llama", scores=(0.3, -1.0, 2.0), **settings):
    """A trainer, and its experience of every completion at once."""
    network = ScoreByToken(list(scores))
    models = PPOModels(
        policy=small_policy(VOCABULARY, seed, architecture),
        ref_policy=small_policy(VOCABULARY, seed + 100, architecture),
        reward=RewardModel(network, shift=0.25),
        value=ScoreByToken([0.1, -0.2, 0.4, 0.2][:VOCABULARY]),  # a baseline; it changes no expectation
    )
    trainer = make_trainer(
        models=models,
        temperature=TEMPERATURE,
        kl=kl,
        **{"beta": 0.5, "lam": 1.0, "missing_eos_score": None, "whiten_advantages": False, **settings},
    )
    return trainer, trainer.score_rollout(every_completion())


def probabilities(trainer: PPOTrainer, experience: Experience) -> torch.Tensor:
    with torch.no_grad():
        return full_logps(trainer.models.policy, experience, TEMPERATURE).sum(1).exp()


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.flatten() for t in tensors])


def gradients_by_completion(trainer: PPOTrainer, experience: Experience) -> torch.Tensor:
    """(N, P) the policy's gradient of each completion alone, summed over its tokens."""
    found = []
    for row, length in enumerate(experience.rollout.completion_mask.sum(1).tolist()):
        trainer.models.policy.zero_grad()
        add_gradients(trainer, experience, torch.tensor([row]), weight=float(length))
        found.append(flat(gradients(trainer.models.policy)))
    return torch.stack(found)


def true_gradient(trainer: PPOTrainer, experience: Experience, beta: float) -> torch.Tensor:
    """Of -(E[score] - beta KL(policy || reference)), both sums over all completions."""
    trainer.models.policy.zero_grad()
    logps = full_logps(trainer.models.policy, experience, TEMPERATURE).sum(1)
    with torch.no_grad():
        ref_logps = full_logps(trainer.models.ref_policy, experience, TEMPERATURE).sum(1)
    assert logps.exp().sum().item() == pytest.approx(1, abs=1e-5)  # every completion is there
    (-(logps.exp() * (experience.scores - beta * (logps - ref_logps))).sum()).backward()
    return flat(gradients(trainer.models.policy))


@pytest.mark.parametrize("kl", ["k1", "full"])
def test_the_expected_gradient_is_the_true_one(kl, architecture):
    trainer, experience = enumerated(kl, architecture=architecture)
    found = probabilities(trainer, experience) @ gradients_by_completion(trainer, experience)
    expected = true_gradient(trainer, experience, beta=0.5)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-4)


def test_whitening_scales_score_and_kl_alike():
    """Whitened advantages are a multiple of the advantages; were the KL in the loss not, beta would mean another."""
    trainer, experience = enumerated("full", whiten_advantages=True)
    found = probabilities(trainer, experience) @ gradients_by_completion(trainer, experience)
    plain, unwhitened = enumerated("full")
    scale = inverse_std(unwhitened.advantages, unwhitened.rollout.completion_mask)
    assert abs(scale - 1) > 0.1
    torch.testing.assert_close(found, scale * true_gradient(plain, unwhitened, beta=0.5), atol=2e-6, rtol=1e-4)


def test_both_estimators_have_the_same_expectation_when_the_future_is_discounted():
    found = []
    for kl in ("k1", "full"):
        trainer, experience = enumerated(kl, gamma=0.6)
        found.append(probabilities(trainer, experience) @ gradients_by_completion(trainer, experience))
    torch.testing.assert_close(*found, atol=2e-6, rtol=1e-4)
    trainer, experience = enumerated("k1")
    undiscounted = probabilities(trainer, experience) @ gradients_by_completion(trainer, experience)
    assert (found[0] - undiscounted).abs().max() > 1e-3


def test_the_exact_kl_is_the_expected_log_ratio():
    """At each prefix, and so over completions: sum of p(y) KL(y) is KL(policy || reference) whichever is summed."""
    trainer, experience = enumerated("full")
    k1 = torch.where(experience.rollout.completion_mask, experience.old_logps - experience.ref_logps, 0)
    share = probabilities(trainer, experience)
    assert (share @ experience.kl.sum(1)).item() == pytest.approx((share @ k1.sum(1)).item(), rel=1e-4)
    assert (experience.kl >= 0).all() and (k1 < 0).any()


def test_the_exact_kl_has_less_variance():
    """Trace of the gradient's covariance by enumeration, with a reward of 0: what is left is the KL's own noise."""
    for seed in range(2):
        variances = {}
        for kl in ("k1", "full"):
            trainer, experience = enumerated(kl, seed, scores=(0.25,) * 3)  # less the shift: 0
            experience = without_a_baseline(trainer, experience)
            share, each = probabilities(trainer, experience), gradients_by_completion(trainer, experience)
            variances[kl] = (share @ each.square().sum(1) - (share @ each).square().sum()).item()
        print(f"seed {seed}: variance of k1 / full = {variances['k1'] / variances['full']:.2f}")
        assert variances["k1"] > 1.5 * variances["full"]


def without_a_baseline(trainer: PPOTrainer, experience: Experience) -> Experience:
    before = Forwards(
        scores=experience.scores,
        logps=experience.old_logps,
        values=torch.zeros_like(experience.old_values),
        ref_logps=experience.ref_logps,
        kl=None if experience.ref_hidden is None else experience.kl,
        ref_hidden=experience.ref_hidden,
    )
    return learnt_from(experience.rollout, before, trainer.kl.beta, trainer.settings)


def test_the_controller_by_hand():
    """beta x (1 + clip(KL / target - 1, -0.2, 0.2) x episodes / horizon), Ziegler et al. 2019."""
    controller = KLController(beta=0.1, target=6.0, horizon=1000)
    controller.update(6.6, episodes=100)  # 10 % above: + 10 % x 0.1
    assert controller.beta == pytest.approx(0.1 * 1.01)
    controller.update(60.0, episodes=100)  # clipped at 20 %
    assert controller.beta == pytest.approx(0.1 * 1.01 * 1.02)
    controller.update(-3.0, episodes=50)  # k1 may be negative; clipped below
    assert controller.beta == pytest.approx(0.1 * 1.01 * 1.02 * 0.99)


def test_without_a_target_beta_stays():
    controller = KLController(beta=0.1)
    controller.update(50.0, episodes=1000)
    assert controller.beta == 0.1


def test_training_steers_beta_by_the_kl_it_logs():
    trainer = make_trainer(episodes=12, beta=0.3, kl_target=0.5, kl_horizon=40)
    rows = trainer.train(PROMPTS)
    beta = 0.3
    for row in rows:
        assert row["beta"] == pytest.approx(beta)  # the one that this batch's reward had
        beta *= 1 + max(-0.2, min(0.2, row["kl_ref"] / 0.5 - 1)) * 4 / 40
    assert trainer.kl.beta == pytest.approx(beta) and beta != 0.3
