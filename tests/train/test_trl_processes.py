"""Two processes that share a batch take the steps of one: losses, gradient norms and parameters."""

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from contexts import a_context
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from bench import processes
from bench.errors import ConfigError
from bench.files import read_json, write_json
from bench.models.loading import load_policy, load_tokenizer, save_policy
from bench.records import Demonstration, PreferencePair
from bench.train.context import TrainingContext
from bench.train.dpo import pair_logps, train_dpo
from bench.train.log import TrainingLog
from bench.train.reward import train_reward_model
from bench.train.settings.common import accumulation_steps
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft

CPU = torch.device("cpu")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # the processes started here have one
WORDS = "cat dog cake party river ball sugar mat".split()
PAIRS = [
    PreferencePair(
        word, f"POST: the {' and the '.join(WORDS[: i + 1])}. TL;DR:", f"the {word}.", f"no {word}" * (i % 3 + 1)
    )
    for i, word in enumerate(WORDS)
]
# A large epsilon: where a gradient is next to 0, Adam would blow its rounding up to a whole step.
BATCH: dict[str, Any] = dict(learning_rate=1e-2, eps=1e-2, batch_size=4, micro_batch_size=1, schedule="constant")
EPOCHS = 2  # of 2 steps


def train_all(folder: Path, out: Path, bf16: bool, **more: Any) -> None:
    """SFT, reward model and DPO from the model in `folder`; parameters and logs into `out`.

    Args:
        more: settings of all three.
    """
    batch = BATCH | more
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)

    def context(stage: str) -> TrainingContext:
        return a_context(out / stage, stage, bf16=bf16)

    def sft() -> tuple[nn.Module, TrainingLog]:
        model = load_policy(folder, CPU)
        rows = [Demonstration(pair.id, pair.prompt, pair.rejected) for pair in PAIRS]  # of different lengths
        return model, train_sft(model, tokenizer, rows, SFTSettings(**batch), context("sft"), epochs=EPOCHS)

    def reward() -> tuple[nn.Module, TrainingLog]:
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
        settings = RewardSettings(**batch)
        return model, train_reward_model(model, tokenizer, PAIRS, settings, context("reward"), epochs=EPOCHS)

    def dpo() -> tuple[nn.Module, TrainingLog]:
        logps = None if bf16 else pair_logps(load_policy(folder, CPU), tokenizer, PAIRS, batch_size=8)
        return train_dpo(folder, tokenizer, PAIRS, logps, DPOSettings(**batch), context("dpo"), epochs=EPOCHS)

    for name, train in (("sft", sft), ("reward", reward), ("dpo", dpo)):
        model, log = train()
        write_json(out / f"{name}.json", log)
        if processes.is_main() or not processes.shard_weights():  # rank 0 has the whole
            weights = {key: value.detach().clone() for key, value in model.named_parameters()}
            save_file(weights, out / f"{name}.safetensors")


def rank(
    folder: Path, out: Path, bf16: bool, index: int, count: int, port: int, environment: dict[str, str], **more: Any
) -> None:
    """One of `count` processes, as `accelerate launch` starts them."""
    places = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {key: str(value) for key, value in places.items()} | {"MASTER_ADDR": "127.0.0.1"} | environment
    AcceleratorState._reset_state(reset_partial_state=True)  # a fork knows what the tests before it have set up
    processes.connect(CPU)
    assert processes.count() == count and processes.is_main() == (index == 0)
    assert processes.from_main(f"of rank {index}") == "of rank 0"
    mine = out / str(index)
    mine.mkdir()
    train_all(folder, mine, bf16, **more)


def in_both_ways(
    model: Path, out: Path, bf16: bool, count: int = 2, environment: dict[str, str] | None = None, **more: Any
) -> None:
    """`train_all` in `count` processes, into `out`/0, `out`/1 and so on, and alone, into `out`/alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    told = [(model, out, bf16, index, count, port, environment or {}) for index in range(count)]
    ranks = [context.Process(target=rank, args=arguments, kwargs=more) for arguments in told]
    for process in ranks:
        process.start()
    (out / "alone").mkdir()
    train_all(model, out / "alone", bf16, **more)
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0] * count


def assert_alike(out: Path, name: str, index: int, norm: float = 1e-5) -> None:
    """What rank `index` has trained and logged is what one process did; gradient norms to `norm` of themselves."""
    expected, found = (load_file(out / who / f"{name}.safetensors") for who in ("alone", str(index)))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=2e-6, rtol=1e-6)
    rows, others = (read_json(out / who / f"{name}.json") for who in (str(index), "alone"))
    assert len(others) == 4
    for row, other in zip(rows, others, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5, abs=1e-6)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=norm)
        assert row["num_tokens"] == other["num_tokens"]


def assert_moved(out: Path, name: str) -> None:
    """Training in one process went somewhere."""
    start, end = load_policy(out / "model", CPU).state_dict(), load_file(out / "alone" / f"{name}.safetensors")
    assert max((end[key] - start[key]).abs().max() for key in end.keys() & start.keys()) > 1e-3


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_processes_train_what_one_does(count: int, make_policy, tokenizer, tmp_path: Path):
    save_policy(make_policy(), tokenizer, tmp_path / "model")
    in_both_ways(tmp_path / "model", tmp_path, False, count)

    for name in ("sft", "reward", "dpo"):
        assert_moved(tmp_path, name)
        for index in range(count):
            assert_alike(tmp_path, name, index)


@pytest.mark.long
def test_in_bf16_two_processes_train_what_one_does_within_its_rounding(make_policy, tokenizer, tmp_path: Path):
    """Each process's gradients are bf16 there (8 bits), fp32 in one process alone."""
    save_policy(make_policy(), tokenizer, tmp_path / "model")
    in_both_ways(tmp_path / "model", tmp_path, bf16=True)

    for name in ("sft", "reward", "dpo"):
        alone, first, second = (read_json(tmp_path / who / f"{name}.json") for who in ("alone", "0", "1"))
        assert [row["loss"] for row in first] == [row["loss"] for row in second]
        assert first[0]["grad_norm"] == pytest.approx(alone[0]["grad_norm"], rel=2**-6)
        for row, other in zip(first, alone, strict=True):  # from then on steps of 1e-2 carry the rounding away
            assert row["loss"] == pytest.approx(other["loss"], rel=0.1, abs=0.02)
        weights = load_file(tmp_path / "0" / f"{name}.safetensors")
        assert {value.dtype for value in weights.values()} == {torch.float32}  # the masters


def test_a_batch_that_the_processes_cannot_share():
    assert accumulation_steps(SFTSettings(batch_size=8, micro_batch_size=2), processes=2) == 2
    with pytest.raises(ConfigError, match=r"^dpo.batch_size must be a multiple of .* \(2\) x 3 processes, got 8$"):
        accumulation_steps(DPOSettings(batch_size=8, micro_batch_size=2), processes=3)
