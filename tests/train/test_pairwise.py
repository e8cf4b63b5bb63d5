"""DPO and the reward model: what trains is this project's loss, and stock TRL computes the same."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.trainer.utils
from contexts import a_context
from datasets import Dataset
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from bench import forward, packing
from bench.losses.dpo import LogRatios, dpo_loss
from bench.losses.reward import reward_loss
from bench.models.loading import load_policy, save_policy
from bench.records import PreferencePair
from bench.special_tokens import pad_id
from bench.train import dpo, reward
from bench.train.health.dpo import DPO
from bench.train.health.reward import REWARD
from bench.train.pairs import pair_batch, pair_tokens
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.trl_common import WHOLE_ROWS, LogCallback, train, training_arguments

pytestmark = pytest.mark.slow

PAIRS = [
    PreferencePair("a", "POST: the cat sat on the warm mat. TL;DR:", "the cat slept.", "a dog"),
    PreferencePair("b", "POST: a dog ran after the ball. TL;DR:", "the dog lost the ball", "the dog ran in the river"),
    PreferencePair("c", "TL;DR:", "cake", "no cake for my friend at the party"),
    PreferencePair("d", "POST: my friend forgot the sugar. TL;DR:", "no sugar", "sugar"),
]
BATCH: dict[str, Any] = dict(
    learning_rate=1e-3, batch_size=4, micro_batch_size=4, schedule="constant"
)  # all pairs in every step
CPU = torch.device("cpu")


TEXTS = [{"prompt": p.prompt, "chosen": f" {p.chosen}", "rejected": f" {p.rejected}"} for p in PAIRS]
"""The pairs as stock TRL takes them."""


@pytest.fixture
def packed_calls(monkeypatch) -> list[int]:
    """One entry per packed batch of pairs: its rows."""
    calls: list[int] = []
    pack = packing.pack

    def watched(input_ids, lengths, pairs=False):
        if pairs:
            calls.append(len(input_ids))
        return pack(input_ids, lengths, pairs)

    monkeypatch.setattr(packing, "pack", watched)
    return calls


@pytest.fixture
def stock(monkeypatch) -> None:
    """TRL as it is on a CPU: every position goes through the LM head. (What `bench.train.sft` sets is of TRL 1.16.)"""
    monkeypatch.setattr(trl.trainer.utils, "_use_triton", lambda device: False, raising=False)


def stock_dpo(policy: Path | PreTrainedModel, tokenizer, scratch, config: dict[str, Any], **more):
    """TRL's trainer, with the settings of `train_dpo`, and its log."""
    context, settings = a_context(scratch, "dpo"), DPOSettings(**BATCH, beta=0.3)
    log = LogCallback(context, "loss")
    arguments = training_arguments(settings, context, epochs=3)
    options = {"beta": 0.3, "model_init_kwargs": {"dtype": torch.float32}, **config}
    trainer = DPOTrainer(
        model=str(policy) if isinstance(policy, Path) else policy,
        args=DPOConfig(**arguments, **WHOLE_ROWS, **options),
        train_dataset=Dataset.from_list(TEXTS),
        processing_class=tokenizer,
        callbacks=[log],
        **more,
    )
    return trainer, log


def train_dpo(folder, tokenizer, scratch, epochs=3, **settings):
    sft = load_policy(folder, CPU)
    return dpo.train_dpo(
        folder,
        tokenizer,
        PAIRS,
        dpo.pair_logps(sft, tokenizer, PAIRS, batch_size=4),
        DPOSettings(**{**BATCH, "beta": 0.3, **settings}),
        a_context(scratch, "dpo"),
        epochs=epochs,
    )


def train_reward(model, tokenizer, scratch, epochs=3):
    return reward.train_reward_model(
        model,
        tokenizer,
        PAIRS,
        RewardSettings(**BATCH),
        a_context(scratch, "reward"),
        epochs=epochs,
    )


def tokens(tokenizer, pair: PreferencePair) -> list[tuple[list[int], list[int]]]:
    """(prompt, completion with EOS) of the chosen and of the rejected summary."""
    prompt = tokenizer(pair.prompt).input_ids
    return [
        (prompt, [*tokenizer(f" {summary}").input_ids, tokenizer.eos_token_id])
        for summary in (pair.chosen, pair.rejected)
    ]


@torch.no_grad()
def slow_logps(model, tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """log pi of the chosen and of the rejected summaries, each row by itself, from the full logits."""
    logps: tuple[list[float], list[float]] = ([], [])
    for pair in PAIRS:
        for column, (prompt, completion) in zip(logps, tokens(tokenizer, pair), strict=True):
            table = model(input_ids=torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
            column.append(sum(table[len(prompt) + i - 1, t].item() for i, t in enumerate(completion)))
    return torch.tensor(logps[0]), torch.tensor(logps[1])


def test_dpo_equals_stock_dpo(make_policy, architecture, tokenizer, tmp_path, packed_calls, stock):
    save_policy(make_policy(architecture), tokenizer, tmp_path / "sft")
    policy, ours = train_dpo(tmp_path / "sft", tokenizer, tmp_path)
    assert packed_calls == [8] * 4  # the reference's pass, and the policy's in each of 3 steps
    assert "forward" not in vars(policy)  # neither ours nor TRL's stays
    packed_calls.clear()
    trainer, log = stock_dpo(tmp_path / "sft", tokenizer, tmp_path, config={"precompute_ref_log_probs": True})
    train(trainer, log, DPO, DPOSettings(**BATCH), a_context(tmp_path, "dpo"))
    assert packed_calls == []

    assert len(ours) == len(log.rows) == 3
    for found, expected in zip(ours, log.rows, strict=True):
        for name in ("loss", "logps/chosen", "logps/rejected", "entropy"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-5), name
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
        for name in ("rewards/margins", "rewards/chosen", "rewards/rejected"):
            assert found[name] == pytest.approx(expected[name], abs=1e-3), name
        assert found["num_tokens"] == expected["num_tokens"]
        assert found["learning_rate"] == expected["learning_rate"]
    assert [row["rewards/accuracies"] for row in ours[1:]] == [row["rewards/accuracies"] for row in log.rows[1:]]
    assert ours[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)  # log 2: the policy is still the reference
    assert ours[2]["loss"] < ours[0]["loss"] - 0.05  # steps that do something


@pytest.mark.parametrize("micro_batch_size", [4, 1])
def test_an_sft_term_equals_stock_trls(micro_batch_size, make_policy, tokenizer, tmp_path, packed_calls, stock):
    """However the batch is cut: the term is a mean over all its tokens, of which pairs have more or fewer."""
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    policy, ours = train_dpo(tmp_path / "sft", tokenizer, tmp_path, sft_weight=0.7, micro_batch_size=micro_batch_size)
    assert len(packed_calls) == (4 if micro_batch_size == 4 else 1 + 3 * 4)
    combined = {"precompute_ref_log_probs": True, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]}
    trainer, log = stock_dpo(tmp_path / "sft", tokenizer, tmp_path, config=combined)
    train(trainer, log, DPO, DPOSettings(**BATCH), a_context(tmp_path, "dpo"))

    assert len(ours) == len(log.rows) == 3
    for found, expected in zip(ours, log.rows, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
    (chosen, _), first = slow_logps(load_policy(tmp_path / "sft", CPU), tokenizer), ours[0]["loss"]
    count = sum(len(tokens(tokenizer, pair)[0][1]) for pair in PAIRS)
    assert first == pytest.approx(math.log(2) - 0.7 * chosen.sum().item() / count, rel=1e-5)
    plain, _ = train_dpo(tmp_path / "sft", tokenizer, tmp_path)
    assert sum(map(torch.sum, slow_logps(policy, tokenizer)[:1])) > sum(
        map(torch.sum, slow_logps(plain, tokenizer)[:1])
    )


def test_smoothed_labels_equal_stock_trls(make_policy, tokenizer, tmp_path, stock):
    """TRL 1.16 has cDPO inside `aot`, whose margins of one pair are that pair's."""
    policy, ref_policy = (make_policy(seed=seed) for seed in (0, 1))
    ref_logps = torch.tensor(dpo.pair_logps(ref_policy, tokenizer, PAIRS, batch_size=4)).T.flatten()
    batch = pair_batch([pair_tokens(tokenizer, pair) for pair in PAIRS], pad_id(tokenizer))
    with torch.no_grad():
        logps, _ = dpo.summed_logps(policy, **batch)
    counts = batch["lengths"] - batch["prompt_lengths"]
    ratios = LogRatios(*(logps - ref_logps).chunk(2), *counts.chunk(2))
    config = {"loss_type": ["aot"], "label_smoothing": 0.1, "model_init_kwargs": None}
    trainer, _ = stock_dpo(policy, tokenizer, tmp_path, config=config, ref_model=ref_policy)
    rows: list[Any] = list(trainer.train_dataset)
    with torch.no_grad():
        theirs = [trainer.compute_loss(policy, trainer.data_collator([row])).item() for row in rows]

    found = dpo_loss(ratios, 0.3, "sigmoid", 0.1).item()
    assert found == pytest.approx(sum(theirs) / len(theirs), rel=1e-5)
    assert abs(found - dpo_loss(ratios, 0.3).item()) > 1e-2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "hinge", "robust", "sigmoid_norm"])
def test_every_loss_type_equals_stock_trl(loss_type, attention, make_policy, tokenizer, tmp_path, packed_calls, stock):
    """Packed with sdpa, padded with eager attention, on networks of which one is not the other."""
    policy, ref_policy = (make_policy(seed=seed) for seed in (0, 1))
    for model in (policy, ref_policy):
        model.set_attn_implementation(attention)
        for parameter in model.parameters():
            parameter.data *= 0.5  # so that log-probs are of the size that a language model's have: -6 a token
    smoothing = 0.1 if loss_type == "robust" else 0.0
    config = {"loss_type": [loss_type], "label_smoothing": smoothing, "model_init_kwargs": None}
    tokens = [pair_tokens(tokenizer, pair) for pair in PAIRS]
    batch = pair_batch(tokens, pad_id(tokenizer))
    counts = batch["lengths"] - batch["prompt_lengths"]
    ref_logps = torch.tensor(dpo.pair_logps(ref_policy, tokenizer, PAIRS, batch_size=3)).T.flatten()
    logps, _ = dpo.summed_logps(policy, **batch)
    loss = dpo_loss(LogRatios(*(logps - ref_logps).chunk(2), *counts.chunk(2)), 0.3, loss_type, smoothing)
    loss.backward()
    found = [parameter.grad for parameter in policy.parameters()]
    assert len(packed_calls) == (3 if attention == "sdpa" else 0)

    policy.zero_grad()
    trainer, _ = stock_dpo(policy, tokenizer, tmp_path, config=config, ref_model=ref_policy)
    theirs = trainer.compute_loss(policy, trainer.data_collator([trainer.train_dataset[i] for i in range(4)]))
    theirs.backward()

    assert loss.item() == pytest.approx(theirs.item(), rel=1e-6, abs=1e-6)
    assert abs(theirs.item() - at_the_reference(loss_type)) > 5e-3  # the two networks do differ
    for one, parameter in zip(found, policy.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-4, rtol=1e-3)


def at_the_reference(loss_type: str) -> float:
    """The loss where the policy is the reference, with beta = 0.3."""
    return {"hinge": 1.0, "ipo": (1 / 0.6) ** 2}.get(loss_type, math.log(2))


def test_the_references_log_probs(make_policy, architecture, tokenizer, packed_calls):
    """Packed, in batches of similar length, and in the order of the pairs."""
    model, done = make_policy(architecture), []
    expected = slow_logps(model, tokenizer)

    found = dpo.pair_logps(model, tokenizer, PAIRS, batch_size=3, on_batch=done.append)

    assert packed_calls == [6, 2] and done == [3, 1]
    torch.testing.assert_close(torch.tensor(found).T, torch.stack(expected), atol=1e-3, rtol=1e-5)


def test_only_completion_tokens_reach_the_lm_head(make_policy, tokenizer, tmp_path, monkeypatch):
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    projected: list[int] = []
    logits = forward.logits_of

    def watched(hidden, head, temperature=1.0):
        projected.append(len(hidden))
        return logits(hidden, head, temperature)

    monkeypatch.setattr(forward, "logits_of", watched)
    train_dpo(tmp_path / "sft", tokenizer, tmp_path, epochs=1)
    completion_tokens = sum(len(completion) for pair in PAIRS for _, completion in tokens(tokenizer, pair))
    assert projected == [completion_tokens] * 3  # the reference's, the policy's, and again in its backward pass


def test_the_log_holds_the_losses_of_its_steps(make_policy, architecture, tokenizer, tmp_path):
    save_policy(make_policy(architecture), tokenizer, tmp_path / "sft")
    after_one_step, _ = train_dpo(tmp_path / "sft", tokenizer, tmp_path, epochs=1)
    _, rows = train_dpo(tmp_path / "sft", tokenizer, tmp_path, epochs=2)

    ref_logps = slow_logps(load_policy(tmp_path / "sft", CPU), tokenizer)
    logps, count = slow_logps(after_one_step, tokenizer), torch.ones(4, dtype=torch.long)
    ratios = LogRatios(*(own - ref for own, ref in zip(logps, ref_logps, strict=True)), count, count)  # pyright: ignore[reportCallIssue]
    second = dpo_loss(ratios, beta=0.3).item()
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[1]["loss"] == pytest.approx(second, abs=1e-4) and abs(second - math.log(2)) > 0.02
    assert rows[0]["logps/chosen"] == pytest.approx(ref_logps[0].mean().item(), abs=1e-3)
    assert rows[0]["logps/rejected"] == pytest.approx(ref_logps[1].mean().item(), abs=1e-3)
    assert rows[1]["rewards/margins"] == pytest.approx(0.3 * ratios.margin.mean().item(), abs=1e-3)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@pytest.mark.parametrize(
    ("loss_type", "formula"),
    [
        # (log-ratio of chosen, of rejected, their lengths in tokens) -> loss, with beta = 0.3
        ("sigmoid", lambda c, r, nc, nr: -log_sigmoid(0.3 * (c - r))),  # Eq. 7, Rafailov et al. 2023
        ("hinge", lambda c, r, nc, nr: max(0.0, 1 - 0.3 * (c - r))),  # SLiC, Zhao et al. 2023
        ("ipo", lambda c, r, nc, nr: (c / nc - r / nr - 1 / 0.6) ** 2),  # Eq. 17, Azar et al. 2023, per token
        (  # Eq. 9, Chowdhury et al. 2024, with a tenth of the labels flipped
            "robust",
            lambda c, r, nc, nr: (-0.9 * log_sigmoid(0.3 * (c - r)) + 0.1 * log_sigmoid(0.3 * (r - c))) / 0.8,
        ),
        ("sigmoid_norm", lambda c, r, nc, nr: -log_sigmoid(0.3 * (c / nc - r / nr))),  # length-normalised
    ],
)
def test_each_loss_type_is_its_formula(loss_type, formula, make_policy, tokenizer, tmp_path):
    """Against a made-up reference, so that the log-ratios of the first step are known and far from 0."""
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    shifts = [(2.0, -1.0), (-3.0, 4.0), (0.5, 0.25), (6.0, -6.0)]  # log-ratios of chosen and rejected
    logps = dpo.pair_logps(load_policy(tmp_path / "sft", CPU), tokenizer, PAIRS, batch_size=4)
    ref = [dpo.PairLogps(own.chosen - c, own.rejected - r) for own, (c, r) in zip(logps, shifts, strict=True)]
    lengths = [[len(completion) for _, completion in tokens(tokenizer, pair)] for pair in PAIRS]

    _, rows = dpo.train_dpo(
        tmp_path / "sft",
        tokenizer,
        PAIRS,
        ref,
        DPOSettings(**BATCH, beta=0.3, loss_type=loss_type, label_smoothing=0.1 if loss_type == "robust" else 0.0),
        a_context(tmp_path, "dpo"),
        epochs=1,
    )

    expected = [formula(*shift, *length) for shift, length in zip(shifts, lengths, strict=True)]
    assert rows[0]["loss"] == pytest.approx(sum(expected) / len(expected), abs=1e-4)
    assert rows[0]["rewards/margins"] == pytest.approx(0.3 * sum(c - r for c, r in shifts) / 4, abs=1e-4)


def test_reward_training_equals_the_stock_one(make_classifier, architecture, tokenizer, tmp_path, packed_calls):
    ours_model, stock_model = make_classifier(architecture), make_classifier(architecture)
    ours = train_reward(ours_model, tokenizer, tmp_path)
    assert packed_calls == [8] * 3 and "forward" not in vars(ours_model)
    context = a_context(tmp_path, "reward")
    log = LogCallback(context, "accuracy")
    trainer = RewardTrainer(
        model=stock_model,
        args=RewardConfig(**training_arguments(RewardSettings(**BATCH), context, 3), **WHOLE_ROWS),
        train_dataset=Dataset.from_list(TEXTS),
        processing_class=tokenizer,
        callbacks=[log],
    )
    train(trainer, log, REWARD, RewardSettings(**BATCH), context)

    assert len(packed_calls) == 3 and len(ours) == len(log.rows) == 3
    for found, expected in zip(ours, log.rows, strict=True):
        for name in ("loss", "margin", "mean_reward", "num_tokens"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-5), name
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
        assert found["accuracy"] == expected["accuracy"]
    assert ours[2]["loss"] < ours[0]["loss"]  # pyright: ignore[reportOperatorIssue]


def test_the_log_holds_the_reward_loss(make_classifier, architecture, tokenizer, tmp_path):
    model, scores = make_classifier(architecture), ([], [])
    for pair in PAIRS:
        for column, (prompt, completion) in zip(scores, tokens(tokenizer, pair), strict=True):
            with torch.no_grad():
                column.append(model(input_ids=torch.tensor([prompt + completion])).logits.item())
    chosen, rejected = map(torch.tensor, scores)
    rows = train_reward(model, tokenizer, tmp_path, epochs=1)
    assert rows[0]["loss"] == pytest.approx(reward_loss(chosen, rejected).item(), abs=1e-4)
    assert rows[0]["accuracy"] == pytest.approx((chosen > rejected).float().mean().item())
