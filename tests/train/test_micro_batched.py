"""Cutting an optimizer batch into micro-batches of similar length changes nothing but the padding."""

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from bench.models.loading import save_policy
from bench.packing import packed
from bench.train.micro_batched import MicroBatched
from bench.train.settings.common import BudgetedSettings

ROWS = [
    {"prompt": "POST: the cat sat on the warm mat.", "chosen": " the cat slept.", "rejected": " a dog"},
    {"prompt": "POST: a dog ran after the ball.", "chosen": " the dog lost the red ball", "rejected": " the river"},
    {"prompt": "TL;DR:", "chosen": " cake", "rejected": " no cake for my friend at the party"},
    {"prompt": "my friend forgot the sugar.", "chosen": " no sugar", "rejected": " sugar"},
    {"prompt": "the cat slept all day.", "chosen": " it slept all day long", "rejected": " it ran"},
]
N = len(ROWS)
LIMITS = [
    BudgetedSettings(batch_size=N, micro_batch_size=N),
    BudgetedSettings(batch_size=2 * N, micro_batch_size=2),
    BudgetedSettings(batch_size=N, micro_batch_size=N, micro_batch_tokens=80),
]


class _SFT(MicroBatched, SFTTrainer):
    pass


class _Reward(MicroBatched, RewardTrainer):
    pass


class _DPO(MicroBatched, DPOTrainer):
    pass


def run(stock, ours, config, model, rows, tokenizer, scratch, limits, monkeypatch, **settings):
    """(log, parameters, rows of each micro-batch) of two steps with all rows in each; `limits` None is stock TRL."""
    trainer = (stock if limits is None else ours)(
        model=model,
        args=config(
            output_dir=str(scratch),
            per_device_train_batch_size=len(rows),
            max_steps=2,
            learning_rate=1e-3,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            seed=0,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    sizes: list[int] = []
    compute_loss = trainer.compute_loss

    def watched(model, inputs, **kwargs):
        sizes.append(len(inputs["input_ids"]))
        return compute_loss(model, inputs, **kwargs)

    monkeypatch.setattr(trainer, "compute_loss", watched)
    if limits is not None:
        trainer.settings = limits
    with packed(trainer.model.base_model, pairs="chosen" in rows[0]):
        trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    return log, [p.detach().clone() for p in trainer.model.parameters()], sizes


def check(runs, limits, sides):
    (log, parameters, sizes), (expected_log, expected, _) = runs
    for found, row in zip(log, expected_log, strict=True):
        for name in {"loss", "grad_norm", "rewards/margins", "accuracy", "mean_token_accuracy", "num_tokens"} & {*row}:
            if name == "mean_token_accuracy" and len(sizes) > 2:
                continue  # averaged over rows here and over tokens there
            assert found[name] == pytest.approx(row[name], rel=1e-4, abs=1e-5), name
    for found, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)
    assert sum(sizes) == 2 * sides * len(ROWS)
    if limits.micro_batch_size == 2:
        assert sizes == [2 * sides, 2 * sides, sides] * 2
    if limits.micro_batch_tokens:
        assert 2 < len(sizes) < 2 * len(ROWS)


@pytest.mark.parametrize("limits", LIMITS, ids=["whole", "rows", "tokens"])
def test_dpo(make_policy, tokenizer, tmp_path, monkeypatch, limits):
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    runs = [
        run(
            DPOTrainer, _DPO, DPOConfig, str(tmp_path / "sft"), ROWS, tokenizer, tmp_path, chosen, monkeypatch,
            precompute_ref_log_probs=True, max_length=None,
        )
        for chosen in (limits, None)
    ]  # fmt: skip
    check(runs, limits, sides=2)


@pytest.mark.parametrize("limits", LIMITS, ids=["whole", "rows", "tokens"])
def test_reward_model(make_classifier, tokenizer, tmp_path, monkeypatch, limits):
    rows = [{side: r["prompt"] + r[side] for side in ("chosen", "rejected")} for r in ROWS]
    runs = [
        run(
            RewardTrainer, _Reward, RewardConfig, make_classifier(), rows, tokenizer, tmp_path, chosen, monkeypatch,
            max_length=None,
        )
        for chosen in (limits, None)
    ]  # fmt: skip
    check(runs, limits, sides=2)


@pytest.mark.parametrize("limits", LIMITS, ids=["whole", "rows", "tokens"])
def test_sft(make_policy, tokenizer, tmp_path, monkeypatch, limits):
    rows = [{"prompt": r["prompt"], "completion": r["chosen"]} for r in ROWS]
    runs = [
        run(
            SFTTrainer, _SFT, SFTConfig, make_policy(), rows, tokenizer, tmp_path, chosen, monkeypatch,
            completion_only_loss=True, max_length=None,
        )
        for chosen in (limits, None)
    ]  # fmt: skip
    check(runs, limits, sides=1)
