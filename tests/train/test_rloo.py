"""RLOO through TRL: one update is REINFORCE with the other samples of the prompt as baseline, drawn by our sampler."""

import math
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context

from bench.errors import ConfigError
from bench.models.loading import RewardModel, load_policy, save_policy
from bench.special_tokens import eos_id
from bench.train import rloo
from bench.train.context import RolloutBudget
from bench.train.settings.rloo import RLOOSettings, within_budget

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
PROMPTS = ["POST: the cat sat on the warm mat. TL;DR:", "POST: a dog ran after the ball. TL;DR:", "TL;DR:"]
TEMPERATURE = 0.7


def completion_logp(model, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """log pi(completion | prompt) at the sampling temperature, from the full logits."""
    hidden = model.base_model(input_ids=torch.tensor([prompt + completion])).last_hidden_state[0]
    table = (model.get_output_embeddings()(hidden) / TEMPERATURE).log_softmax(-1)
    return torch.stack([table[len(prompt) + i - 1, token] for i, token in enumerate(completion)]).sum()


@pytest.mark.parametrize("num_iterations", [1, 2])
def test_two_updates_are_reinforce_with_a_leave_one_out_baseline(
    num_iterations: int,
    make_policy,
    make_classifier,
    architecture,
    tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """By hand from the completions that were drawn; in the second update the KL to the SFT model is no longer 0.

    In a second step on the same completions their probability ratios are no longer 1, and are clipped at 0.8 and 1.2.
    """
    save_policy(make_policy(architecture), tokenizer, tmp_path / "sft")
    settings = RLOOSettings(
        learning_rate=1e-2,
        eps=1e-2,
        batch_size=6,
        micro_batch_size=3,
        num_generations=3,
        num_iterations=num_iterations,
        schedule="constant",
        beta=0.5,
        missing_eos_score=None,
    )
    seen: list[tuple[list[str], list[list[int]], Any]] = []
    make = rloo.reward_function

    def watched(*arguments: Any):
        score = make(*arguments)

        def recorded(prompts, completion_ids, **rest):
            seen.append((prompts, completion_ids, score(prompts, completion_ids, **rest)))
            return seen[-1][-1]

        return recorded

    monkeypatch.setattr(rloo, "reward_function", watched)
    policy, rows = rloo.train_rloo(
        tmp_path / "sft",
        RewardModel(make_classifier(architecture, seed=1)),
        tokenizer,
        PROMPTS,
        settings,
        # Two updates; the budget is not overspent. The cache holds one prompt's samples at a time.
        RolloutBudget(TEMPERATURE, episodes=13, max_new_tokens=5, at_once=3),
        a_context(tmp_path, "rloo"),
    )

    expected, ref = load_policy(tmp_path / "sft", CPU), load_policy(tmp_path / "sft", CPU)
    optimizer = torch.optim.AdamW(expected.parameters(), lr=1e-2, eps=1e-2, weight_decay=0.0)
    assert len(seen) == 2 and len(rows) == 2 * num_iterations
    for row, (prompts, completions, scores) in zip(rows[::num_iterations], seen, strict=True):
        assert [len(list(group)) for _, group in groupby(prompts)] == [3, 3]
        assert len(set(map(tuple, completions))) > 2  # samples of one prompt differ
        texts = [(tokenizer(prompt).input_ids, ids) for prompt, ids in zip(prompts, completions, strict=True)]
        logps = torch.stack([completion_logp(expected, *text) for text in texts])
        with torch.no_grad():
            kl = logps - torch.stack([completion_logp(ref, *text) for text in texts])
        rewards = torch.tensor(scores) - 0.5 * kl
        old = logps.detach()
        for step in range(num_iterations):
            logps = torch.stack([completion_logp(expected, *text) for text in texts])
            loss = torch.tensor(0.0)
            for i, ratio in enumerate((logps - old).exp()):
                others = [rewards[j].detach() for j in range(i // 3 * 3, i // 3 * 3 + 3) if j != i]
                advantage = rewards[i].detach() - sum(others) / 2
                loss = loss - torch.minimum(advantage * ratio, advantage * ratio.clamp(0.8, 1.2)) / 6
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(expected.parameters(), settings.max_grad_norm or math.inf)
            optimizer.step()
            logged = rows[rows.index(row) + step]
            assert logged["grad_norm"] == pytest.approx(norm.item(), rel=1e-3, abs=1e-6)
            assert ("reward" in logged) == (step == 0)
        assert row["reward"] == pytest.approx(sum(scores) / 6, rel=1e-4)
    assert kl.abs().max() > 0.1
    for found, wanted in zip(policy.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


def test_a_run_goes_on_only_from_between_two_batches(make_policy, make_classifier, tokenizer, tmp_path: Path):
    """Rollouts are in no checkpoint: of 4 steps, two on each batch, that after the second is kept alone."""
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    settings = RLOOSettings(batch_size=4, micro_batch_size=4, num_generations=2, num_iterations=2, learning_rate=1e-3)

    def trained():
        return rloo.train_rloo(
            tmp_path / "sft",
            RewardModel(make_classifier(seed=1)),
            tokenizer,
            PROMPTS,
            settings,
            RolloutBudget(TEMPERATURE, episodes=8, max_new_tokens=4),
            a_context(tmp_path / "scratch", "rloo", checkpoint_every_s=0.0),
        )

    policy, log = trained()
    kept = [folder.name for folder in (tmp_path / "scratch").glob("checkpoint-*")]
    again, log_again = trained()

    assert kept == ["checkpoint-2"] and [row["step"] for row in log] == [row["step"] for row in log_again] == [
        1,
        2,
        3,
        4,
    ]
    assert log_again[:2] == log[:2] and log_again[2]["wall_s"] != log[2]["wall_s"]  # the last two steps ran again
    for found, expected in zip(again.parameters(), policy.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_the_score_is_the_reward_models_at_the_last_token(make_classifier, architecture, tokenizer):
    model = make_classifier(architecture)
    settings = RLOOSettings(batch_size=4, micro_batch_size=2, num_generations=2, missing_eos_score=-7.0)
    score = rloo.reward_function(RewardModel(model, shift=0.5), tokenizer, settings, bf16=False)
    finished = [[*tokenizer(text).input_ids, eos_id(tokenizer)] for text in (" the cat", " cake", " no sugar")]
    with torch.no_grad():
        expected = [
            model(input_ids=torch.tensor([tokenizer(prompt).input_ids + ids])).logits.item() - 0.5
            for prompt, ids in zip(PROMPTS, finished, strict=True)
        ]

    assert score(PROMPTS, finished) == pytest.approx(expected, abs=1e-4)
    assert score(PROMPTS, [finished[0][:-1], *finished[1:]]) == pytest.approx([-7.0, *expected[1:]], abs=1e-4)


@pytest.mark.parametrize(
    ("episodes", "processes", "batch", "micro"), [(1000, 1, 64, 16), (8, 1, 8, 8), (1000, 2, 64, 16), (8, 2, 8, 4)]
)
def test_a_budget_below_a_batch_is_one_smaller_update(episodes: int, processes: int, batch: int, micro: int):
    settings = within_budget(RLOOSettings(batch_size=64, micro_batch_size=16), episodes, processes)

    assert (settings.batch_size, settings.micro_batch_size) == (batch, micro)


@pytest.mark.parametrize(("episodes", "processes"), [(6, 1), (4, 2), (2, 1)])
def test_a_budget_of_no_whole_groups(episodes: int, processes: int):
    with pytest.raises(ConfigError, match=rf"^rloo.num_generations x {processes} processes must divide .* got 4$"):
        within_budget(RLOOSettings(batch_size=64, micro_batch_size=16), episodes, processes)
