"""LoRA in every trainer of TRL's: adapters alone learn, stock TRL takes the same steps, a plain model comes out."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context
from datasets import Dataset
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from test_few_steps import PAIRS
from test_sft import DEMONSTRATIONS
from transformers import GPT2Config, GPT2LMHeadModel
from trl import SFTConfig, SFTTrainer

from bench.config import RunConfig
from bench.errors import ConfigError
from bench.files import write_json
from bench.models.loading import _SHIFT_FILE, RewardModel, load_policy, save_policy
from bench.train.context import RolloutBudget
from bench.train.dpo import pair_logps, train_dpo
from bench.train.lora import adapted, put_adapters, require_4_bits
from bench.train.ppo import PPOTrainer
from bench.train.ppo_models import load_ppo_models
from bench.train.ppo_rollouts import PromptIds
from bench.train.reward import train_reward_model
from bench.train.rloo import train_rloo
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.ppo import PPOSettings
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


IN_4_BITS = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is an extra")


@pytest.mark.parametrize(
    "method",
    [
        *("sft", "reward", "dpo", "rloo", "sft bf16", "reward bf16", "dpo bf16", "rloo bf16"),
        *(pytest.param(f"{kind} 4bit", marks=IN_4_BITS) for kind in ("sft", "reward", "dpo", "rloo", "dpo bf16")),
    ],
)
def test_a_plain_model_comes_out_of_which_a_few_directions_moved(
    method: str, make_policy, make_classifier, tokenizer, tmp_path: Path
):
    """What moved in a linear layer of the backbone has the adapters' rank; everything else is as it was, to the bit,
    but for the reward model's head."""
    kind, bf16 = method.split()[0], "bf16" in method
    lora: dict[str, Any] = LORA | {"lora_4bit": "4bit" in method}
    hidden = 64 if "4bit" in method else 32
    policy, classifier = partial(make_policy, hidden_size=hidden), partial(make_classifier, hidden_size=hidden)
    context = a_context(tmp_path / "run", kind, bf16=bf16)
    before = classifier() if kind == "reward" else policy()
    if kind == "sft":
        after = policy()
        train_sft(after, tokenizer, DEMONSTRATIONS, SFTSettings(**lora), context, epochs=2)
    elif kind == "reward":
        after = classifier()
        train_reward_model(after, tokenizer, PAIRS, RewardSettings(**lora), context, epochs=2)
    else:
        save_policy(before, tokenizer, tmp_path / "sft")
        if kind == "dpo":
            beside = bf16 or "4bit" in method
            ref_logps = None if beside else pair_logps(load_policy(tmp_path / "sft", CPU), tokenizer, PAIRS, 4)
            settings = DPOSettings(**lora)
            after, log = train_dpo(tmp_path / "sft", tokenizer, PAIRS, ref_logps, settings, context, epochs=2)
            assert log[0]["loss"] == pytest.approx(0.693147, abs=1e-4)  # policy and reference are one model
        else:
            reward = RewardModel(classifier(), shift=0.0)
            budget = RolloutBudget(1.0, 8, 6)
            beta = 0.0 if "4bit" in method else 0.05
            settings = RLOOSettings(**lora, beta=beta, num_generations=2, missing_eos_score=None)
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


@pytest.mark.parametrize("four_bit", [False, pytest.param(True, marks=IN_4_BITS)])
def test_a_run_with_adapters_goes_on_after_a_kill(four_bit: bool, make_policy, tokenizer, tmp_path: Path):
    settings = SFTSettings(**LORA, lora_4bit=four_bit)
    make_policy = partial(make_policy, hidden_size=64)
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


NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
    *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]
"""The 16 numbers of Dettmers et al. 2023, appendix E."""


@IN_4_BITS
@pytest.mark.parametrize("bf16", [False, True])
def test_what_lies_beneath_adapters_has_four_bits_and_comes_back_whole(bf16: bool, make_policy):
    network, start = make_policy(hidden_size=64), make_policy(hidden_size=64).state_dict()
    whole = [
        m.weight.detach() for m in make_policy(hidden_size=64).base_model.modules() if isinstance(m, torch.nn.Linear)
    ]
    codes = torch.tensor(NF4)

    with adapted(network, SFTSettings(**LORA, lora_4bit=True), seed=0, bf16=bf16):
        held: list[Any] = [module.base_layer for module in network.modules() if isinstance(module, LoraLayer)]
        for layer, weight in zip(held, whole, strict=True):
            assert layer.weight.dtype == torch.uint8 and layer.weight.numel() == weight.numel() / 2
            blocks = weight.reshape(-1, 64)  # in order, each with a scale of its own
            scale = blocks.abs().amax(1, keepdim=True)
            wanted = codes[(blocks / scale)[..., None].sub(codes).abs().argmin(-1)] * scale
            found = layer(torch.eye(weight.size(1))).detach().T.float()  # what each input adds
            # The scales have 8 bits themselves, and so have numbers in bf16; 4 bits err by up to 15 % of a scale.
            assert ((found.reshape(-1, 64) - wanted).abs() / scale).max() < 0.03

    for name, value in network.state_dict().items():
        assert torch.equal(value, start[name]), name


@IN_4_BITS
@pytest.mark.parametrize("bf16", [False, True])
def test_ppo_in_four_bits(bf16: bool, architecture: str, make_policy, make_classifier, tokenizer, tmp_path: Path):
    """The reference is the policy without its adapters: nothing lies between them before the first step."""
    save_policy(make_policy(architecture, hidden_size=64), tokenizer, tmp_path / "sft")
    save_policy(make_classifier(architecture, hidden_size=64), tokenizer, tmp_path / "reward")
    write_json(tmp_path / "reward" / _SHIFT_FILE, {"shift": 0.0})
    settings = PPOSettings(**LORA, lora_4bit=True, ppo_epochs=1, missing_eos_score=None)
    dtype = torch.bfloat16 if bf16 else torch.float32
    models = load_ppo_models(tmp_path / "sft", tmp_path / "reward", settings, device=CPU, frozen_dtype=dtype, seed=0)
    trainer = PPOTrainer(models, tokenizer, settings, RolloutBudget(1.0, 8, 6), a_context(tmp_path / "run", bf16=bf16))
    log = trainer.train([PromptIds(pair.id, tokenizer(pair.prompt).input_ids) for pair in PAIRS])

    first, second = (row["kl_ref"] or 0.0 for row in log)
    assert abs(first) < 1e-5 < abs(second)
    after, before = trainer.models.trained_policy(), make_policy(architecture, hidden_size=64)
    ranks = [
        int(torch.linalg.matrix_rank((new - old).double(), rtol=1e-3))
        for (name, new), old in zip(after.named_parameters(), before.parameters(), strict=True)
        if new.ndim == 2 and "embed" not in name and "lm_head" not in name
    ]
    assert 0 < max(ranks) <= RANK


@IN_4_BITS
def test_what_four_bits_do_not_hold_right_is_refused(make_policy, monkeypatch):
    """bitsandbytes 0.50 takes the first block's scale for all where a CPU multiplies rows that are no whole blocks."""
    functional = pytest.importorskip("bitsandbytes.functional")
    network = make_policy(hidden_size=64)
    require_4_bits(network)
    right = functional.dequantize_4bit
    monkeypatch.setattr(functional, "dequantize_4bit", lambda *args: 1.3 * right(*args))
    with pytest.raises(ConfigError, match=r"lora_4bit: bitsandbytes does not hold a layer of \(64, 64\) right on cpu"):
        require_4_bits(network)
    with pytest.raises(ConfigError, match="has no plain linear layers"):
        require_4_bits(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=16)))


def test_four_bits_where_they_would_be_no_fair_start_are_refused():
    four_bits: dict[str, Any] = {"lora_rank": 4, "lora_4bit": True}
    with pytest.raises(ConfigError, match=r"rloo\.lora_4bit must be false where rloo\.beta is above 0"):
        RLOOSettings(**four_bits)
    with pytest.raises(ConfigError, match=r"dpo\.lora_4bit must be false with the arm iterated_dpo"):
        RunConfig(arms=("sft", "iterated_dpo"), dpo=DPOSettings(**four_bits))
    with pytest.raises(ConfigError, match=r"dpo\.lora_4bit needs a lora_rank above 0"):
        DPOSettings(lora_4bit=True)
