"""DPO and the reward model inside TRL's trainers: packed and stock runs agree, and so do the losses of this project."""

import contextlib
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl.kernels.chunked_logprob
import trl.trainer.utils
from contexts import a_context
from trl import DPOTrainer

from bench import packing
from bench.losses.dpo import dpo_loss
from bench.losses.reward import reward_loss
from bench.models.loading import load_policy, save_policy
from bench.records import PreferencePair
from bench.train import dpo, reward
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.reward import RewardSettings

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


@pytest.fixture
def packed_calls(monkeypatch) -> list[int]:
    """One entry per packed batch."""
    calls: list[int] = []
    pack = packing.pack

    def watched(input_ids, lengths, pairs=False):
        if pairs:
            calls.append(len(input_ids))
        return pack(input_ids, lengths, pairs)

    monkeypatch.setattr(packing, "pack", watched)
    return calls


def use_stock_trl(monkeypatch) -> None:
    """No packing, every position through the LM head and a reference pass of its own, as TRL does on a CPU."""

    class OwnReference(DPOTrainer):
        def _precompute_ref_logps(self, dataset, *args, **kwargs):
            return super()._precompute_ref_logps(
                dataset.remove_columns(["ref_chosen_logps", "ref_rejected_logps"]), *args, **kwargs
            )

    monkeypatch.setattr(dpo, "_ReferencedDPOTrainer", OwnReference)
    for module in (dpo, reward):
        monkeypatch.setattr(module, "packed", lambda backbone, pairs: contextlib.nullcontext())
    monkeypatch.setattr(trl.trainer.utils, "_use_triton", trl.kernels.chunked_logprob._use_triton)
    assert not trl.trainer.utils._use_triton(CPU)


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
            # The backbone and the head by themselves: a model that came out of TRL carries TRL's forward.
            hidden = model.base_model(input_ids=torch.tensor([prompt + completion])).last_hidden_state[0]
            table = model.get_output_embeddings()(hidden).log_softmax(-1)
            column.append(sum(table[len(prompt) + i - 1, t].item() for i, t in enumerate(completion)))
    return torch.tensor(logps[0]), torch.tensor(logps[1])


def test_packed_dpo_equals_stock_dpo(make_policy, architecture, tokenizer, tmp_path, packed_calls, monkeypatch):
    save_policy(make_policy(architecture), tokenizer, tmp_path / "sft")
    packed_policy, packed = train_dpo(tmp_path / "sft", tokenizer, tmp_path)
    assert packed_calls == [8] * 4  # the reference's pass, and the policy's in each of 3 steps
    assert "forward" not in vars(packed_policy.base_model)
    packed_calls.clear()
    use_stock_trl(monkeypatch)
    _, stock = train_dpo(tmp_path / "sft", tokenizer, tmp_path)
    assert packed_calls == [8]  # of `pair_logps`, whose numbers stock TRL replaces by its own
    assert len(packed) == len(stock) == 3

    for found, expected in zip(packed, stock, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
        assert found["rewards/margins"] == pytest.approx(expected["rewards/margins"], abs=1e-3)
    assert packed[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)  # log 2: the policy is still the reference
    assert packed[2]["loss"] < packed[0]["loss"] - 0.05  # steps that do something


def test_the_references_log_probs(make_policy, architecture, tokenizer, packed_calls):
    """Packed, in batches of similar length, and in the order of the pairs."""
    model, done = make_policy(architecture), []
    expected = slow_logps(model, tokenizer)

    found = dpo.pair_logps(model, tokenizer, PAIRS, batch_size=3, on_batch=done.append)

    assert packed_calls == [6, 2] and done == [3, 1]
    torch.testing.assert_close(torch.tensor(found).T, torch.stack(expected), atol=1e-3, rtol=1e-5)
    assert "forward" not in vars(model.base_model)


def test_only_completion_tokens_reach_the_lm_head(make_policy, tokenizer, tmp_path, monkeypatch):
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    projected: list[int] = []
    kernel = trl.trainer.utils._ChunkedLogProbFunction

    def watched(hidden, *args):
        projected.append(len(hidden))
        return kernel.apply(hidden, *args)

    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", SimpleNamespace(apply=watched))
    train_dpo(tmp_path / "sft", tokenizer, tmp_path, epochs=1)
    completion_tokens = sum(len(completion) for pair in PAIRS for _, completion in tokens(tokenizer, pair))
    assert projected == [completion_tokens]


def test_trl_logs_the_dpo_loss_of_this_project(make_policy, architecture, tokenizer, tmp_path):
    save_policy(make_policy(architecture), tokenizer, tmp_path / "sft")
    after_one_step, _ = train_dpo(tmp_path / "sft", tokenizer, tmp_path, epochs=1)
    _, rows = train_dpo(tmp_path / "sft", tokenizer, tmp_path, epochs=2)

    sft = load_policy(tmp_path / "sft", CPU)
    policy_logps, ref_logps = slow_logps(after_one_step, tokenizer), slow_logps(sft, tokenizer)
    first, second = (
        dpo_loss(*ref_logps, *ref_logps, beta=0.3).item(),
        dpo_loss(*policy_logps, *ref_logps, beta=0.3).item(),
    )
    assert rows[0]["loss"] == pytest.approx(first, abs=1e-5)
    assert rows[1]["loss"] == pytest.approx(second, abs=1e-4) and abs(second - first) > 0.02
    assert rows[0]["logps/chosen"] == pytest.approx(ref_logps[0].mean().item(), abs=1e-3)
    assert rows[0]["logps/rejected"] == pytest.approx(ref_logps[1].mean().item(), abs=1e-3)


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


def test_packed_reward_training_equals_the_stock_one(
    make_classifier, architecture, tokenizer, tmp_path, packed_calls, monkeypatch
):
    packed_model, stock_model = make_classifier(architecture), make_classifier(architecture)
    packed: Any = train_reward(packed_model, tokenizer, tmp_path)
    assert packed_calls == [8] * 3 and "forward" not in vars(packed_model.base_model)
    use_stock_trl(monkeypatch)
    stock = train_reward(stock_model, tokenizer, tmp_path)
    assert len(packed_calls) == 3 and len(packed) == len(stock) == 3
    for found, expected in zip(packed, stock, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
        assert found["accuracy"] == expected["accuracy"]
    assert packed[2]["loss"] < packed[0]["loss"]


def test_trl_logs_the_reward_loss_of_this_project(make_classifier, architecture, tokenizer, tmp_path):
    model, scores = make_classifier(architecture), ([], [])
    for pair in PAIRS:
        for column, (prompt, completion) in zip(scores, tokens(tokenizer, pair), strict=True):
            with torch.no_grad():
                column.append(model(input_ids=torch.tensor([prompt + completion])).logits.item())
    chosen, rejected = map(torch.tensor, scores)
    rows = train_reward(model, tokenizer, tmp_path, epochs=1)
    assert rows[0]["loss"] == pytest.approx(reward_loss(chosen, rejected).item(), abs=1e-4)
    assert rows[0]["accuracy"] == pytest.approx((chosen > rejected).float().mean().item())
