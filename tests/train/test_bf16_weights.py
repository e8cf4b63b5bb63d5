"""Training in bf16 weights over fp32 masters stays within bf16's noise of training in fp32."""

from pathlib import Path

import pytest
import torch

from bench.models.loading import load_policy, save_policy
from bench.records import Demonstration, PreferencePair
from bench.train import dpo, reward, sft
from bench.train.config import DPOSettings, RewardSettings, SFTSettings

CPU = torch.device("cpu")
PAIRS = [
    PreferencePair("a", "POST: the cat sat on the warm mat. TL;DR:", "the cat slept.", "a dog"),
    PreferencePair("b", "POST: a dog ran after the ball. TL;DR:", "the dog lost the ball", "the dog ran in the river"),
    PreferencePair("c", "TL;DR:", "cake", "no cake for my friend at the party"),
    PreferencePair("d", "POST: my friend forgot the sugar. TL;DR:", "no sugar", "sugar"),
]
BATCH = dict(learning_rate=1e-3, batch_size=4, micro_batch_size=2, schedule="constant")


def trained(method: str, bf16: bool, make_policy, make_classifier, tokenizer, scratch: Path):
    """(the trained network, its losses) after 4 steps."""
    common = dict(epochs=4, seed=0, device=CPU, bf16=bf16, scratch=scratch / str(bf16))
    if method == "sft":
        model = make_policy()
        rows = [Demonstration(p.id, p.prompt, p.chosen) for p in PAIRS]
        log = sft.train_sft(model, tokenizer, rows, SFTSettings(**BATCH), **common)
    elif method == "reward":
        model = make_classifier()
        log = reward.train_reward_model(model, tokenizer, PAIRS, RewardSettings(**BATCH), stage="reward", **common)
    else:
        save_policy(make_policy(), tokenizer, scratch / "sft")
        ref = dpo.pair_logps(load_policy(scratch / "sft", CPU), tokenizer, PAIRS, 4)
        model, log = dpo.train_dpo(scratch / "sft", tokenizer, PAIRS, ref, DPOSettings(**BATCH), **common)
    return model, [row["loss"] for row in log]


@pytest.mark.parametrize("method", ["sft", "reward", "dpo"])
def test_losses_and_weights_stay_close(method, make_policy, make_classifier, tokenizer, tmp_path):
    arguments = (make_policy, make_classifier, tokenizer, tmp_path)
    low, low_losses = trained(method, True, *arguments)
    full, full_losses = trained(method, False, *arguments)

    assert low_losses != full_losses  # bf16 was at work
    assert low_losses == pytest.approx(full_losses, rel=0.05, abs=0.05)
    assert full_losses[-1] < full_losses[0] - 0.05  # and so was the training
    for found, wanted in zip(low.parameters(), full.parameters(), strict=True):
        assert found.dtype == torch.float32
        assert (found - wanted).abs().mean() < 1e-3  # 4 steps of AdamW move each weight by up to 4e-3
    assert not torch.equal(next(low.parameters()), next(low.parameters()).bfloat16().float())  # the masters are kept
