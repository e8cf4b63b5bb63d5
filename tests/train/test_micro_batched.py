"""Cutting an optimizer batch into micro-batches of similar length changes nothing but the padding."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from accelerate.utils.deepspeed import DeepSpeedEngineWrapper
from contexts import a_context
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from bench.models.loading import load_policy, save_policy
from bench.packing import packed
from bench.records import Demonstration, PreferencePair
from bench.train import dpo, reward, sft
from bench.train.micro_batched import MicroBatched
from bench.train.settings.common import BudgetedSettings
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.sft import SFTSettings

PAIRS = [
    PreferencePair("a", "POST: the cat sat on the warm mat.", "the cat slept.", "a dog"),
    PreferencePair("b", "POST: a dog ran after the ball.", "the dog lost the red ball", "the river"),
    PreferencePair("c", "TL;DR:", "cake", "no cake for my friend at the party"),
    PreferencePair("d", "my friend forgot the sugar.", "no sugar", "sugar"),
    PreferencePair("e", "the cat slept all day.", "it slept all day long", "it ran"),
]
N = len(PAIRS)
WHOLE = dict(batch_size=N, micro_batch_size=N)
LIMITS = {
    "rows": dict(batch_size=2 * N, micro_batch_size=2),  # all rows there are
    "tokens": dict(batch_size=N, micro_batch_size=N, micro_batch_tokens=80),
}
TRAINING = dict(learning_rate=1e-3, schedule="constant")
CPU = torch.device("cpu")


class _SFT(MicroBatched, SFTTrainer):
    pass


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """Rows of each micro-batch, as they come."""
    seen: list[int] = []
    for trainer in (dpo._Trainer, reward._Trainer, _SFT):

        def watched(self, model, inputs, *args, own=trainer.compute_loss, **kwargs):
            seen.append(len(inputs["input_ids"]))
            return own(self, model, inputs, *args, **kwargs)

        monkeypatch.setattr(trainer, "compute_loss", watched)
    return seen


def check(cut, whole, sizes: list[int], limits: str, sides: int) -> None:
    """(log, parameters) of two steps with all rows in each; `sizes` are of the first."""
    (log, parameters), (expected_log, expected) = cut, whole
    assert len(log) == len(expected_log) == 2
    for found, row in zip(log, expected_log, strict=True):
        for name in {"loss", "grad_norm", "rewards/margins", "accuracy", "margin", "num_tokens"} & {*row}:
            assert found[name] == pytest.approx(row[name], rel=1e-4, abs=1e-5), name
    for found, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)
    assert sum(sizes) == 2 * sides * N
    if limits == "rows":
        assert sizes == [2 * sides, 2 * sides, sides] * 2
    else:
        assert 2 < len(sizes) < 2 * N


@pytest.mark.parametrize("limits", LIMITS)
def test_dpo(make_policy, tokenizer, tmp_path, sizes, limits):
    save_policy(make_policy(), tokenizer, tmp_path / "sft")
    ref_logps = dpo.pair_logps(load_policy(tmp_path / "sft", CPU), tokenizer, PAIRS, batch_size=N)
    runs = []
    for name, limit in (("cut", LIMITS[limits]), ("whole", WHOLE)):
        settings, context = DPOSettings(**TRAINING, **limit), a_context(tmp_path / name, "dpo")  # pyright: ignore[reportArgumentType]
        policy, log = dpo.train_dpo(tmp_path / "sft", tokenizer, PAIRS, ref_logps, settings, context, epochs=2)
        runs.append((log, list(policy.parameters())))
    assert sizes[-2:] == [2 * N, 2 * N]
    check(*runs, sizes[:-2], limits, sides=2)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("limits", LIMITS)
def test_reward_model(make_classifier, tokenizer, tmp_path, sizes, limits):
    runs = []
    for name, limit in (("cut", LIMITS[limits]), ("whole", WHOLE)):
        settings, context = RewardSettings(**TRAINING, **limit), a_context(tmp_path / name, "reward")  # pyright: ignore[reportArgumentType]
        model = make_classifier()
        log = reward.train_reward_model(model, tokenizer, PAIRS, settings, context, epochs=2)
        runs.append((log, list(model.parameters())))
    assert sizes[-2:] == [2 * N, 2 * N]
    check(*runs, sizes[:-2], limits, sides=2)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("limits", LIMITS)
def test_sft(make_policy, tokenizer, tmp_path, sizes, limits):
    """Against stock TRL."""
    rows = [{"prompt": pair.prompt, "completion": f" {pair.chosen}"} for pair in PAIRS]
    runs = []
    for kind in (_SFT, SFTTrainer):
        trainer = kind(
            model=make_policy(),
            args=SFTConfig(
                output_dir=str(tmp_path), per_device_train_batch_size=N, max_steps=2, learning_rate=1e-3,
                logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False,
                gradient_checkpointing=False, disable_tqdm=True, seed=0, completion_only_loss=True, max_length=None,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.settings = BudgetedSettings(**LIMITS[limits])  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        with packed(trainer.model.base_model):  # pyright: ignore[reportArgumentType]
            trainer.train()
        runs.append(([row for row in trainer.state.log_history if "loss" in row], list(trainer.model.parameters())))
    check(*runs, sizes, limits, sides=1)  # pyright: ignore[reportCallIssue]


class _Engine:
    """What accelerate's wrapper asks of DeepSpeed's engine, which steps when it is told to and forgets the gradient."""

    def __init__(self) -> None:
        self.passes: list[bool] = []  # whether each backward pass was to be the last of its step
        self.steps = 0

    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None:
        self.passes.append(is_boundary)

    def backward(self, loss: torch.Tensor, **_: object) -> None:
        loss.backward()

    def step(self) -> None:
        self.steps += 1


@pytest.mark.parametrize("method", ["sft", "reward", "dpo"])
def test_deepspeed_steps_once_per_batch(make_policy, make_classifier, tokenizer, tmp_path, sizes, monkeypatch, method):
    """2 batches in 3 micro-batches each: accelerate's own wrapper would have its engine step in all 6."""
    engine = _Engine()
    wrapper = DeepSpeedEngineWrapper(engine)

    def backward(self: Accelerator, loss: torch.Tensor, **kwargs: object) -> None:  # as Accelerator.backward has it
        with monkeypatch.context() as patched:
            patched.setattr(type(self), "distributed_type", DistributedType.DEEPSPEED)
            patched.setattr(type(self), "deepspeed_engine_wrapped", wrapper, raising=False)
            own_backward(self, loss, **kwargs)

    own_backward = Accelerator.backward
    monkeypatch.setattr(Accelerator, "backward", backward)
    batch, context = {**TRAINING, **LIMITS["rows"]}, a_context(tmp_path / "training", method)
    if method == "sft":
        rows = [Demonstration(pair.id, pair.prompt, pair.chosen) for pair in PAIRS]
        sft.train_sft(make_policy(), tokenizer, rows, SFTSettings(**batch), context, epochs=2)  # pyright: ignore[reportArgumentType]
    elif method == "reward":
        settings = RewardSettings(**batch)  # pyright: ignore[reportArgumentType]
        reward.train_reward_model(make_classifier(), tokenizer, PAIRS, settings, context, epochs=2)
    else:
        save_policy(make_policy(), tokenizer, tmp_path / "sft")
        logps = [dpo.PairLogps(-1.0, -1.0)] * N
        dpo.train_dpo(tmp_path / "sft", tokenizer, PAIRS, logps, DPOSettings(**batch), context, epochs=2)  # pyright: ignore[reportArgumentType]
    assert engine.passes == [False, False, True] * 2
    assert engine.steps == 2
