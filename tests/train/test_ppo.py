"""PPO: its rewards by hand, its gradient against a slow plain one, and a bandit with a closed-form optimum."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean, pstdev
from typing import Any

import pytest
import torch
from contexts import a_context
from ppo_world import (
    EOS,
    PROMPTS,
    SETTINGS,
    ScoreByToken,
    add_gradients,
    full_logps,
    gradients,
    make_trainer,
    make_transformer_trainer,
    small_policy,
)

from bench.errors import ConfigError
from bench.forward import last_token_scores, logps_and_entropy
from bench.models.loading import RewardModel
from bench.ops import masked_mean
from bench.records import Rollout
from bench.train.context import RolloutBudget
from bench.train.log import TrainingLog
from bench.train.ppo import PPOTrainer
from bench.train.ppo_experience import Experience, describe
from bench.train.ppo_models import PPOModels, ScoreScale
from bench.train.ppo_rollouts import LoopSampler, PromptIds
from bench.train.settings.ppo import PPOSettings


def test_a_missing_eos_replaces_the_score_of_unfinished_rows_alone():
    replaced = make_trainer(missing_eos_score=-7.0, batch_size=8, episodes=8, max_new_tokens=3).collect(PROMPTS * 2)
    finished = replaced.rollout.is_finished
    assert finished.any() and not finished.all()
    assert (replaced.scores[finished] == 2.0 - 0.25).all()  # the score of EOS less the shift
    assert (replaced.scores[~finished] == -7.0).all()

    kept = make_trainer(missing_eos_score=None, batch_size=8, episodes=8, max_new_tokens=3)
    experience = kept.collect(PROMPTS * 2)
    by_token = kept.models.reward.model.get_parameter("score.weight")[0]
    last = torch.stack(
        [
            ids[m][-1]
            for ids, m in zip(experience.rollout.completion_ids, experience.rollout.completion_mask, strict=True)
        ]
    )
    torch.testing.assert_close(experience.scores, by_token[last].detach() - 0.25)


def test_a_missing_eos_may_be_subtracted():
    penalties: list[dict[str, Any]] = [
        {"missing_eos_score": None},
        {"missing_eos": "subtract", "missing_eos_score": -1.5},
    ]
    plain, lowered = (
        make_trainer(batch_size=8, episodes=8, max_new_tokens=3, **penalty).collect(PROMPTS * 2)
        for penalty in penalties
    )
    finished = plain.rollout.is_finished
    assert torch.equal(lowered.scores[finished], plain.scores[finished])
    torch.testing.assert_close(lowered.scores[~finished], plain.scores[~finished] - 1.5)


def test_scores_are_clipped_before_the_penalty():
    clipped = make_trainer(
        missing_eos="subtract", missing_eos_score=-1.5, reward_clip=0.6, batch_size=8, episodes=8, max_new_tokens=3
    ).collect(PROMPTS * 2)
    finished = clipped.rollout.is_finished
    assert finished.any() and not finished.all()
    assert torch.equal(clipped.scores[finished], torch.full((int(finished.sum()),), 0.6))  # EOS scores 2.0 - 0.25
    ends = clipped.rollout.completion_ids[~finished, -1].tolist()
    # Each token's score less the shift of 0.25, by hand, at most 0.6 and at least -0.6; then the penalty.
    by_hand = {0: -0.6, 2: 0.25, 3: -0.6, 4: 0.6, 5: -0.25, 6: 0.05, 7: -0.6}
    assert clipped.scores[~finished].tolist() == pytest.approx([by_hand[token] - 1.5 for token in ends])
    assert len(set(ends)) > 1


def test_the_value_model_may_learn_alone_at_first():
    """Two updates of three: the policy stays, as do its learning rate and beta; the values learn what they would."""
    options: dict[str, Any] = dict(episodes=12, ppo_epochs=2, schedule="linear", kl_target=0.1, kl_horizon=4)
    trainer = make_trainer(**options, critic_warmup_updates=2)
    start = {name: [p.detach().clone() for p in net.parameters()] for name, net in trainer.models.trained.items()}
    stayed: list[dict[str, bool]] = []

    def watch(rows: TrainingLog) -> None:
        trained = trainer.models.trained.items()
        stayed.append({name: all(map(torch.equal, net.parameters(), start[name])) for name, net in trained})

    trainer.context = replace(trainer.context, on_rows=watch)
    rows = trainer.train(PROMPTS)

    assert stayed == [{"policy": True, "value": False}, {"policy": True, "value": False}, dict.fromkeys(start, False)]
    assert [row["optimizer_steps"] for row in rows] == [0, 0, 2]
    assert ["approx_kl" in row and "policy_grad_norm" in row for row in rows] == [False, False, True]
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-3, 1e-3, 0.0])
    assert [row["beta"] for row in rows] == [0.05] * 3 and trainer.kl.beta != 0.05
    # The first update's values are those of a run in which the policy learns beside them.
    beside = make_trainer(**options).train(PROMPTS)
    assert (
        rows[0]["value_loss"] == beside[0]["value_loss"] and rows[0]["value_grad_norm"] == beside[0]["value_grad_norm"]
    )


def test_a_warm_up_that_leaves_the_policy_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"^ppo.critic_warmup_updates must be below the 2 updates .*, got 2$"):
        make_trainer(episodes=8, critic_warmup_updates=2)


def test_scores_are_normalised_on_samples_of_the_sft_model_and_values_with_them():
    """Mean 0 and variance 1 over 2 batches of samples before training; the penalty is on the new scale."""
    trainer = make_trainer(episodes=4, batch_size=2, micro_batch_size=2, normalize_reward=True, max_new_tokens=3)
    seen: list[Rollout] = []
    roll_out = trainer.roll_out
    trainer.roll_out = lambda prompts: seen.append(roll_out(prompts)) or seen[-1]  # type: ignore[method-assign]
    before = copy.deepcopy(trainer.models.policy.state_dict())
    sampled_from = []
    trainer.learner.optimizers["policy"].register_step_pre_hook(lambda *_: sampled_from.append(len(seen)))
    trainer.train(PROMPTS)
    assert sampled_from[0] == 3  # two batches measured, and the first one trained on
    assert any(not torch.equal(p, before[name]) for name, p in trainer.models.policy.state_dict().items())

    by_token = trainer.models.reward.model.get_parameter("score.weight")[0].detach()
    last = [r.completion_ids[row][r.completion_mask[row]][-1] for r in seen[:2] for row in range(2)]
    raw = by_token[torch.stack(last)]
    scale = trainer.models.scale
    assert (scale.offset, scale.sd) == pytest.approx((raw.mean().item(), raw.std(correction=0).item()))
    rollout = seen[-1]
    experience = trainer.score_rollout(rollout)
    for row, mask in enumerate(rollout.completion_mask):
        token = rollout.completion_ids[row][mask][-1]
        expected = (by_token[token] - scale.offset) / scale.sd if rollout.is_finished[row] else -1.0
        assert experience.scores[row].item() == pytest.approx(float(expected), abs=1e-6)
        first = rollout.input_ids[row, rollout.prompt_lengths[row] - 1]  # the first value stands on the prompt's end
        value = trainer.models.value.get_parameter("score.weight")[0, first].item()
        assert experience.old_values[row, 0].item() == pytest.approx((value - scale.offset) / scale.sd, abs=1e-5)


def test_a_constant_reward_is_not_blown_up():
    assert ScoreScale.of(torch.tensor([2.0, 2.0])) == ScoreScale(2.0, 1.0)


def test_an_update_ends_before_the_step_that_would_move_too_far():
    """The first minibatch of the first pass has ratio 1; at this rate the next ones are far away."""
    free = make_trainer(episodes=8, ppo_epochs=3, learning_rate=0.05, schedule="linear")
    stopped = make_trainer(episodes=8, ppo_epochs=3, learning_rate=0.05, schedule="linear", max_approx_kl=1e-4)
    one_pass = make_trainer(episodes=8, ppo_epochs=1, learning_rate=0.05, schedule="constant")
    rows = [trainer.train(PROMPTS)[0] for trainer in (free, stopped)]
    assert rows[0]["optimizer_steps"] == 3 and rows[0]["approx_kl"] > 1e-3
    assert rows[1]["optimizer_steps"] == 1
    # the minibatch that ended it counts in the averages: 0 at first, then beyond the limit
    assert rows[1]["approx_kl"] > 0.5e-4
    # the schedule goes on: after the first of two updates half of the six steps are over
    assert rows[0]["learning_rate"] == rows[1]["learning_rate"] == pytest.approx(0.025)

    # and what is skipped leaves no trace: the first update is that of a single pass
    stopped = make_trainer(ppo_epochs=3, learning_rate=0.05, max_approx_kl=1e-4)
    for trainer in (stopped, one_pass):
        trainer.update(trainer.collect(PROMPTS))
        assert all(p.grad is None for p in trainer.models.policy.parameters())
    for a, b in zip(stopped.models.policy.parameters(), one_pass.models.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_samplers_log_probs_stand_in_once_they_have_been_compared():
    trainer = make_trainer()
    forwards: list[int] = []
    forward = trainer.models.forward
    trainer.models.forward = lambda *a: forwards.append(1) or forward(*a)  # type: ignore[method-assign]
    first = trainer.collect(PROMPTS)
    assert trainer.reuse_sampler_logps is True and len(forwards) == 1
    torch.testing.assert_close(first.old_logps, first.rollout.logps, atol=1e-5, rtol=0)
    second = trainer.collect(PROMPTS)
    assert len(forwards) == 1  # saved
    assert torch.equal(second.old_logps, second.rollout.logps)
    torch.testing.assert_close(second.old_logps, full_logps(trainer.models.policy, second), atol=1e-5, rtol=1e-5)


def test_log_probs_that_differ_from_the_samplers_are_computed_again():
    trainer = make_trainer()
    roll_out = trainer.roll_out
    trainer.roll_out = lambda prompts: replace(  # type: ignore[method-assign]
        rollout := roll_out(prompts), logps=rollout.logps + 2e-5
    )
    for _ in range(2):
        experience = trainer.collect(PROMPTS)
        assert trainer.reuse_sampler_logps is False
        assert not torch.equal(experience.old_logps, experience.rollout.logps)


@pytest.mark.parametrize("options", [{"kl": "full"}, {"value_model": "shared"}])
def test_where_the_policy_runs_anyway_nothing_is_reused(options):
    trainer = make_transformer_trainer(**options)
    trainer.collect(PROMPTS)
    assert trainer.reuse_sampler_logps is False


def test_values_start_as_the_reward_models_scores_of_every_prefix(make_policy, make_classifier, architecture):
    policy, classifier = make_policy(architecture), make_classifier(architecture, seed=1)
    models = PPOModels(policy, copy.deepcopy(policy), RewardModel(classifier, 0.5), copy.deepcopy(classifier))
    trainer = make_trainer(models=models, missing_eos_score=None)
    experience = trainer.collect(PROMPTS)
    rollout, mask = experience.rollout, experience.rollout.completion_mask
    for step in range(mask.size(1)):
        rows = mask[:, step]
        with torch.no_grad():
            raw = last_token_scores(classifier, rollout.input_ids, rollout.prompt_lengths + step)
        torch.testing.assert_close(experience.old_values[rows, step], raw[rows] - 0.5, atol=1e-5, rtol=1e-5)
    # one token further stands the score itself, on the same scale: without the shift every value would be off by it
    with torch.no_grad():
        raw = last_token_scores(classifier, rollout.input_ids, rollout.prompt_lengths + mask.sum(1))
    torch.testing.assert_close(experience.scores, raw - 0.5, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("whiten_rewards", [False, True])
def test_experience_is_what_the_equations_say(whiten_rewards):
    trainer = make_trainer(beta=0.3, gamma=0.9, lam=0.8, whiten_advantages=False, whiten_rewards=whiten_rewards)
    experience = trainer.collect(PROMPTS)
    with torch.no_grad():
        logps = full_logps(trainer.models.policy, experience)
        ref_logps = full_logps(trainer.models.ref_policy, experience)
    torch.testing.assert_close(experience.old_logps, logps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(experience.ref_logps, ref_logps, atol=1e-5, rtol=1e-5)
    assert (logps - ref_logps).abs().max() > 0.1
    lengths = experience.rollout.completion_mask.sum(1).tolist()
    every = [[-0.3 * (logps[row, t] - ref_logps[row, t]).item() for t in range(n)] for row, n in enumerate(lengths)]
    for row, rewards in enumerate(every):
        rewards[-1] += experience.scores[row].item()
    if whiten_rewards:  # divided by their standard deviation about their mean, which stays
        mean, sd = fmean(chain(*every)), pstdev(chain(*every))
        every = [[mean + (reward - mean) / sd for reward in rewards] for rewards in every]
    for row, (length, rewards) in enumerate(zip(lengths, every, strict=True)):
        values = [*experience.old_values[row, :length].tolist(), 0.0]
        for t in range(length):
            advantage = sum(
                (0.9 * 0.8) ** (k - t) * (rewards[k] + 0.9 * values[k + 1] - values[k]) for k in range(t, length)
            )
            assert experience.advantages[row, t].item() == pytest.approx(advantage, abs=1e-4)
            assert experience.returns[row, t].item() == pytest.approx(advantage + values[t], abs=1e-4)


def test_whitened_advantages_have_mean_0_and_variance_1():
    experience = make_trainer().collect(PROMPTS)
    inside = experience.advantages[experience.rollout.completion_mask]
    assert inside.mean().item() == pytest.approx(0, abs=1e-5)
    assert inside.square().mean().item() == pytest.approx(1, abs=1e-4)


def test_the_first_passes_ratio_is_1(make_policy, make_classifier, architecture):
    policy, classifier = make_policy(architecture), make_classifier(architecture)
    models = PPOModels(policy, copy.deepcopy(policy), RewardModel(classifier), copy.deepcopy(classifier))
    trainer = make_trainer(models=models, micro_batch_size=2)
    found = trainer.update(trainer.collect(PROMPTS))
    # fp32 rounds log-probs of 30 nats and more by 2e-6, and the two passes cut their rows differently.
    assert found["ratio_max"] == pytest.approx(1, abs=5e-5)
    assert found["approx_kl"] == pytest.approx(0, abs=1e-8)
    assert found["clip_fraction"] == 0
    later = trainer.update(trainer.collect(PROMPTS))
    assert later["ratio_max"] == pytest.approx(1, abs=5e-5)  # old log-probs follow the policy


def test_the_policys_gradient_is_the_reinforce_gradient_and_the_values_a_regression():
    trainer = make_trainer(vf_coef=0.4, whiten_advantages=False)
    experience = trainer.collect(PROMPTS)
    mask = experience.rollout.completion_mask
    add_gradients(trainer, experience, torch.arange(4))
    found_policy, found_value = gradients(trainer.models.policy), gradients(trainer.models.value)

    trainer.models.policy.zero_grad()
    logps = full_logps(trainer.models.policy, experience)
    (-(experience.advantages * logps)[mask].sum() / mask.sum()).backward()
    for found, expected in zip(found_policy, gradients(trainer.models.policy), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)

    # V(token) is the weight of the token that a completion token follows: 0.4 x 0.5 (V - R)^2, averaged over tokens
    expected_value = torch.zeros(8)
    rollout = experience.rollout
    for row, step in mask.nonzero().tolist():
        before = rollout.input_ids[row, rollout.prompt_lengths[row] + step - 1]
        error = experience.old_values[row, step] - experience.returns[row, step]
        expected_value[before] += 0.4 * error / mask.sum()
    torch.testing.assert_close(found_value[0][0], expected_value, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"num_mini_batches": 2}])
def test_the_gradient_does_not_depend_on_the_micro_batch(settings):
    """The rows' completions differ in length, so that a plain mean over micro-batches would show."""
    steps = []
    for cut in ({"micro_batch_size": 1}, {"micro_batch_size": 2}, {"micro_batch_size": 2, "micro_batch_tokens": 10}):
        trainer = make_trainer(**cut, beta=0.3, **settings)
        seen: list[list[torch.Tensor]] = []
        for name, network in (("policy", trainer.models.policy), ("value", trainer.models.value)):
            trainer.learner.optimizers[name].register_step_pre_hook(
                lambda optimizer, args, kwargs, network=network, seen=seen: seen.append(gradients(network))
            )
        experience = trainer.collect(PROMPTS)
        assert len(set(experience.rollout.completion_mask.sum(1).tolist())) > 1
        losses = trainer.update(experience)
        steps.append((seen, losses))
    one, one_losses = steps[0]
    for other, losses in steps[1:]:
        assert len(one) == len(other) == 2 * settings.get("num_mini_batches", 1)  # a step of each network per minibatch
        for found, expected in zip(one, other, strict=True):
            assert any(g.abs().max() > 1e-3 for g in expected)
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        for key, value in one_losses.items():
            assert value == pytest.approx(losses[key], rel=1e-3, abs=1e-5), key


def test_one_optimizer_step_per_minibatch_and_epoch():
    trainer = make_trainer(ppo_epochs=3, num_mini_batches=2, micro_batch_size=1, schedule="linear", episodes=8)
    counts = {"policy": 0, "value": 0}
    for name, optimizer in trainer.learner.optimizers.items():
        optimizer.register_step_pre_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
    rows = trainer.train(PROMPTS)
    assert [row["step"] for row in rows] == [1, 2]  # 8 episodes in batches of 4
    assert counts == {"policy": 2 * 3 * 2, "value": 2 * 3 * 2}
    # linear to 0 over the run's 12 steps: half way after the first update
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.5e-3, 0.0], abs=1e-12)


@pytest.mark.parametrize(("value_rate", "expected"), [(5e-2, 5e-2), (None, 1e-3)])
def test_the_value_model_may_learn_at_a_rate_of_its_own(value_rate, expected):
    trainer = make_trainer(learning_rate=1e-3, value_learning_rate=value_rate)
    assert trainer.learner.optimizers["policy"].param_groups[0]["lr"] == 1e-3
    assert trainer.learner.optimizers["value"].param_groups[0]["lr"] == expected


def test_the_eos_position_receives_gradient():
    """With an advantage at the EOS alone, the gradient is that of -log pi(EOS), and a step makes the EOS likelier."""
    trainer = make_trainer(learning_rate=1e-2)
    experience = trainer.collect(PROMPTS)
    rollout = experience.rollout
    at_eos = (rollout.completion_ids == EOS) & rollout.completion_mask
    assert at_eos.any() and torch.equal(at_eos.any(1), rollout.is_finished)
    experience = Experience(**{**vars(experience), "advantages": at_eos.float()})

    add_gradients(trainer, experience, torch.arange(4))
    found = gradients(trainer.models.policy)
    trainer.models.policy.zero_grad()
    logps = full_logps(trainer.models.policy, experience)
    (-logps[at_eos].sum() / rollout.completion_mask.sum()).backward()
    for a, b in zip(found, gradients(trainer.models.policy), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)
    assert any(g.abs().max() > 1e-3 for g in found)

    trainer.learner.optimizers["policy"].step()
    with torch.no_grad():
        after = full_logps(trainer.models.policy, experience)
    assert (after[at_eos] > logps[at_eos]).all()


def test_only_policy_and_value_move():
    trainer = make_trainer(episodes=8)
    models = trainer.models
    networks = {
        "policy": models.policy,
        "ref": models.ref_policy,
        "reward": models.reward.model,
        "value": models.value,
    }
    before = {name: [p.detach().clone() for p in network.parameters()] for name, network in networks.items()}
    trainer.train(PROMPTS)
    moved = {
        name: [not torch.equal(p, q) for p, q in zip(network.parameters(), before[name], strict=True)]
        for name, network in networks.items()
    }
    assert all(moved["policy"]) and all(moved["value"])
    assert not any(moved["ref"]) and not any(moved["reward"])


def test_the_same_seed_trains_the_same_parameters():
    trained = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(trained))  # the global generator plays no part
        trainer = make_trainer(seed=seed, episodes=16, micro_batch_size=2, num_mini_batches=2)
        trainer.train(PROMPTS)
        trained.append([*trainer.models.policy.parameters(), *trainer.models.value.parameters()])
    first, again, other = trained
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("options", [{}, {"lora_rank": 2, "kl": "full", "beta": 0.3}, {"value_model": "shared"}])
def test_in_bf16_the_sampler_follows_the_policy_and_the_first_ratio_is_1(options):
    trainer = make_transformer_trainer(bf16=True, episodes=8, learning_rate=0.05, **options)
    rows = trainer.train(PROMPTS)
    # the log-probs are those of the training forward, not the sampler's, which differ by bf16's rounding
    assert [row["ratio_max"] for row in rows] == pytest.approx([1, 1], abs=1e-3)
    assert isinstance(trainer.sampler, LoopSampler)
    assert trainer.sampler.policy() is trainer.models.policy
    for parameter in trainer.models.trained_policy().parameters():
        assert parameter.dtype is torch.float32  # at the end again: the masters


def test_rollouts_are_sampled_a_few_at_a_time_and_are_the_same():
    whole, cut = (make_trainer(at_once=at_once).roll_out(PROMPTS) for at_once in (None, 3))

    for name in ("input_ids", "completion_ids", "completion_mask", "is_finished"):
        assert torch.equal(getattr(cut, name), getattr(whole, name)), name


def test_every_prompt_comes_once_before_any_comes_again():
    trainer = make_trainer(batch_size=3, micro_batch_size=3)
    ids = [index for _ in range(4) for index in trainer.order.take(3, of=4)]
    assert [sorted(ids[i : i + 4]) for i in (0, 4, 8)] == [[0, 1, 2, 3]] * 3
    assert len({tuple(ids[i : i + 4]) for i in (0, 4, 8)}) > 1  # in an order of its own each time


def test_the_logged_entropy_is_that_of_the_rollout_policy():
    trainer = make_trainer(ppo_epochs=2, learning_rate=0.05, micro_batch_size=2, num_mini_batches=1)
    experience = trainer.collect(PROMPTS)
    rollout, mask = experience.rollout, experience.rollout.completion_mask
    with torch.no_grad():
        _, entropy = logps_and_entropy(trainer.models.policy, rollout, 0.7)
    assert trainer.update(experience)["entropy"] == pytest.approx(masked_mean(entropy, mask).item(), rel=1e-5)


def test_the_logs_numbers_by_hand():
    trainer = make_trainer(beta=0.3)
    experience = trainer.collect(PROMPTS)
    found = describe(experience, 0.3)
    mask = experience.rollout.completion_mask
    kl = [(experience.old_logps - experience.ref_logps)[row][mask[row]].sum().item() for row in range(4)]
    scores = experience.scores.tolist()
    assert found["kl_ref"] == pytest.approx(sum(kl) / 4, rel=1e-4)
    assert found["score"] == pytest.approx(sum(scores) / 4)
    assert found["reward"] == pytest.approx(sum(s - 0.3 * k for s, k in zip(scores, kl, strict=True)) / 4, rel=1e-4)
    assert found["length_tokens"] == mask.sum().item() / 4
    assert found["finished"] == experience.rollout.is_finished.sum().item() / 4
    returns, values = experience.returns[mask], experience.old_values[mask]
    assert found["explained_variance"] == pytest.approx(1 - ((returns - values).var() / returns.var()).item(), rel=1e-4)


def test_gold_is_logged_as_the_mean_over_the_batch(make_policy, tokenizer, tmp_path):
    policy = make_policy()
    reward = ScoreByToken([0.0] * 300)
    trainer = PPOTrainer(
        PPOModels(policy, copy.deepcopy(policy), RewardModel(reward), copy.deepcopy(reward)),
        tokenizer,
        PPOSettings(**SETTINGS),
        RolloutBudget(0.7, episodes=4, max_new_tokens=4),
        a_context(tmp_path, "ppo"),
    )
    asked: list[tuple[str, str]] = []

    def gold(summaries: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(summaries)
        return [float(place + 1) for place in range(len(summaries))]

    rows = trainer.train(PROMPTS, gold)
    assert rows[0]["gold"] == (1 + 2 + 3 + 4) / 4
    assert sorted(prompt_id for prompt_id, _ in asked) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("kl", ["k1", "full"])
def test_a_bandit_reaches_the_closed_form_optimum(kl):
    """One token per completion and a known reward r: the optimum is pi_ref exp(r / beta) / Z."""
    scores, beta, prompt = [0.0, 1.0, -0.5, 0.5, 0.2, -1.0], 0.5, [2]
    policy, reward = small_policy(vocabulary=6), ScoreByToken(scores)
    models = PPOModels(policy, copy.deepcopy(policy), RewardModel(reward), copy.deepcopy(reward))

    def distribution(model) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)

    start = distribution(policy)
    unnormalised = [p * math.exp(r / beta) for p, r in zip(start.tolist(), scores, strict=True)]
    optimum = torch.tensor([u / sum(unnormalised) for u in unnormalised])
    assert 0.5 * (optimum - start).abs().sum() > 0.2  # a way to go

    trainer = make_trainer(
        models=models,
        episodes=256 * 25,
        max_new_tokens=1,
        temperature=1.0,
        kl=kl,
        beta=beta,
        learning_rate=5e-3,
        value_learning_rate=5e-2,
        batch_size=256,
        micro_batch_size=256,
        ppo_epochs=2,
        schedule="linear",
        missing_eos_score=None,
        whiten_advantages=False,
    )
    trainer.train([PromptIds("bandit", prompt)])
    distance = 0.5 * (optimum - distribution(policy)).abs().sum().item()
    print(f"{kl}: total variation {distance:.5f}")
    assert distance < 0.02


def test_a_budget_below_one_batch_is_one_update_of_that_many_episodes():
    trainer = make_trainer(episodes=3, batch_size=8, micro_batch_size=2, num_mini_batches=2)
    seen = []
    collect = trainer.collect
    trainer.collect = lambda prompts: seen.append(len(prompts)) or collect(prompts)

    assert len(trainer.train(PROMPTS)) == 1
    assert seen == [3]
