"""LoRA in every trainer of TRL's: adapters alone learn, stock TRL takes the same steps, a plain model comes out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context
from datasets import Dataset
from peft import PeftModel
from test_few_steps import PAIRS
from test_sft import DEMONSTRATIONS
from trl import SFTConfig, SFTTrainer

from bench.models.loading import RewardModel, load_policy, save_policy
from bench.train.context import RolloutBudget
from bench.train.dpo import pair_logps, train_dpo
from bench.train.lora import put_adapters
from bench.train.reward import train_reward_model
from bench.train.rloo import train_rloo
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.rloo import RLOOSettings
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft
from bench.train.trl_common import WHOLE_ROWS, training_arguments

pytestmark = pytest.mark.slow
RANK = 2
LORA: dict[str, Any] = dict(
    learning_rate=1e-2, batch_size=4, micro_batch_size=2, schedule="constant", lora_rank=RANK, lora_alpha=8
)
CPU = torch.device("cpu")


def test_stock_trl_takes_the_same_steps_on_the_same_adapters(make_policy, tokenizer, tmp_path: Path):
    settings, context = SFTSettings(**LORA), a_context(tmp_path / "ours")
    ours, theirs = make_policy(), make_policy()
    rows = train_sft(ours, tokenizer, DEMONSTRATIONS, settings, context, epochs=3)
    texts = [{"prompt": d.prompt, "completion": f" {d.completion}"} for d in DEMONSTRATIONS]
    arguments = training_arguments(settings, a_context(tmp_path / "theirs"), 3)
    trainer = SFTTrainer(
        model=put_adapters(theirs, settings, context.seed),
        args=SFTConfig(**arguments, **WHOLE_ROWS, completion_only_loss=True),
        train_dataset=Dataset.from_list(texts),
        processing_class=tokenizer,
    )
    trainer.train()

    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-4)
    assert isinstance(trainer.model, PeftModel)
    for found, wanted in zip(ours.parameters(), trainer.model.merge_and_unload().parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("method", ["sft", "reward", "dpo", "rloo", "sft bf16", "reward bf16", "dpo bf16", "rloo bf16"])
def test_a_plain_model_comes_out_of_which_a_few_directions_moved(
    method: str, make_policy, make_classifier, tokenizer, tmp_path: Path
):
    """What moved in a linear layer of the backbone has the adapters' rank; everything else is as it was, to the bit,
    but for the reward model's head."""
    kind, _, bf16 = method.partition(" ")
    context = a_context(tmp_path / "run", kind, bf16=bool(bf16))
    before = make_classifier() if kind == "reward" else make_policy()
    if kind == "sft":
        after = make_policy()
        train_sft(after, tokenizer, DEMONSTRATIONS, SFTSettings(**LORA), context, epochs=2)
    elif kind == "reward":
        after = make_classifier()
        train_reward_model(after, tokenizer, PAIRS, RewardSettings(**LORA), context, epochs=2)
    else:
        save_policy(before, tokenizer, tmp_path / "sft")
        if kind == "dpo":
            ref_logps = None if bf16 else pair_logps(load_policy(tmp_path / "sft", CPU), tokenizer, PAIRS, 4)
            settings = DPOSettings(**LORA)
            after, log = train_dpo(tmp_path / "sft", tokenizer, PAIRS, ref_logps, settings, context, epochs=2)
            assert log[0]["loss"] == pytest.approx(0.693147, abs=1e-4)  # policy and reference are one model
        else:
            reward = RewardModel(make_classifier(), shift=0.0)
            budget = RolloutBudget(1.0, 8, 6)
            settings = RLOOSettings(**LORA, num_generations=2, missing_eos_score=None)
            prompts = [pair.prompt for pair in PAIRS]
            after, _ = train_rloo(tmp_path / "sft", reward, tokenizer, prompts, settings, budget, context)

    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    assert new.keys() == old.keys()
    inside = {f"{name}.weight" for name, m in before.base_model.named_modules() if isinstance(m, torch.nn.Linear)}
    moved = 0
    for name, parameter in new.items():
        difference = parameter.detach() - old[name]
        assert parameter.dtype == torch.float32
        if any(name.endswith(layer) for layer in inside):
            rank = int(torch.linalg.matrix_rank(difference.double(), rtol=1e-3))
            assert rank <= RANK, name
            moved += rank
        elif not name.startswith("score"):
            assert torch.equal(parameter, old[name]), name
    assert moved > 0


def test_a_run_with_adapters_goes_on_after_a_kill(make_policy, tokenizer, tmp_path: Path):
    settings = SFTSettings(**LORA)
    whole = make_policy()
    train_sft(whole, tokenizer, DEMONSTRATIONS, settings, a_context(tmp_path / "whole"), epochs=4)

    class Killed(Exception):
        pass

    def stop(rows: list) -> None:
        if len(rows) == 2:
            raise Killed

    killed = a_context(tmp_path / "run", checkpoint_every_s=0.0, on_rows=stop)
    with pytest.raises(Killed):
        train_sft(make_policy(), tokenizer, DEMONSTRATIONS, settings, killed, epochs=4)
    context = a_context(tmp_path / "run", checkpoint_every_s=0.0)
    resumed = make_policy()
    rows = train_sft(resumed, tokenizer, DEMONSTRATIONS, settings, context, epochs=4)

    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for found, wanted in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)
