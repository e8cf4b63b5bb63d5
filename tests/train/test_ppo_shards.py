"""Processes that each hold a share of every network train what one does, in a share of the memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ppo_world import (
    PROMPTS,
    SETTINGS,
    VARIANTS,
    join,
    make_trainer,
    parameters_of,
    small_models,
    train_all,
    train_variant,
    variant_trainer,
)
from safetensors.torch import load_file, save_file
from test_ppo_processes import PROCESSES, free_port
from torch.distributed.tensor import DTensor

from bench.files import read_json, write_json
from bench.train.ppo import PPOTrainer
from bench.train.settings.ppo import PPOSettings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def in_processes(count: int, target: Callable[..., None], *arguments: object) -> None:
    """target(*arguments, rank, count, port) in each of `count` processes."""
    port = free_port()
    started = [PROCESSES.Process(target=target, args=(*arguments, rank, count, port)) for rank in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * count


def train_in_shares(folder: Path, names: list[str], rank: int, count: int, port: int) -> None:
    train_all(folder, rank, count, port, names, sharded=True)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_shares_train_what_whole_networks_do(count: int, tmp_path: Path):
    """Llama and GPT-NeoX, full and LoRA, k1 and exact KL; on four also shared value heads and minibatches of one row.
    The processes' rows differ in number and length, so that some have more micro-batches than others."""
    names = ["plain", "lora"] if count == 2 else list(VARIANTS)
    in_processes(count, train_in_shares, tmp_path, names)

    for name in names:
        parameters, log = train_variant(name)
        for rank in range(count):
            found = load_file(tmp_path / f"{name}-{rank}.safetensors")
            assert found.keys() == parameters.keys()
            for key, value in parameters.items():
                torch.testing.assert_close(found[key], value, atol=2e-6, rtol=2e-6)
        for row, other in zip(read_json(tmp_path / f"{name}-0.json"), log, strict=True):
            for key in row.keys() - {"wall_s"}:
                assert row[key] == pytest.approx(other[key], rel=1e-5, abs=1e-6), (name, row["step"], key)


def start_in_shares(folder: Path, rank: int, count: int, port: int) -> None:
    """Two of four updates, each with a checkpoint."""
    join(rank, count, port)
    trainer = variant_trainer("plain", folder, sharded=True)
    trainer.updates = 2
    trainer.train(PROMPTS[:3])


def go_on_in_shares(folder: Path, rank: int, count: int, port: int) -> None:
    join(rank, count, port)
    trainer = variant_trainer("plain", folder, sharded=True)
    assert len(trainer.train(PROMPTS[:3])) == 4
    found = parameters_of(trainer)
    if rank == 0:
        save_file(found, folder / "ended.safetensors")


def test_a_run_goes_on_in_another_number_of_processes(tmp_path: Path):
    """Two, then one without shares; one, then two in shares."""
    expected, _ = train_variant("plain")
    in_processes(2, start_in_shares, tmp_path)
    found, log = train_variant("plain", tmp_path)
    assert len(log) == 4
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=2e-6, rtol=2e-6)

    alone = variant_trainer("plain", tmp_path / "back")
    alone.updates = 2
    alone.train(PROMPTS[:3])
    in_processes(2, go_on_in_shares, tmp_path / "back")
    ended = load_file(tmp_path / "back" / "ended.safetensors")
    for key, value in expected.items():
        torch.testing.assert_close(ended[key], value, atol=2e-6, rtol=2e-6)


def held(trainer: PPOTrainer) -> int:
    """Bytes of weights and optimizer states on this process, after a run."""
    trainer.train(PROMPTS[:3])
    models = trainer.models
    networks = [n for n in (models.policy, models.ref_policy, models.reward.model, models.value) if n is not None]
    tensors = [p for network in networks for p in network.parameters()]
    for optimizer in trainer.learner.optimizers.values():
        tensors += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    local = [t.to_local() if isinstance(t, DTensor) else t for t in {id(t): t for t in tensors}.values()]
    return sum(t.numel() * t.element_size() for t in local)


def hold_shares(folder: Path, rank: int, count: int, port: int) -> None:
    join(rank, count, port)
    models = small_models(PPOSettings(**SETTINGS))
    assert models.ref_policy is not None
    for frozen in (models.ref_policy, models.reward.model):
        frozen.bfloat16()  # as `load_ppo_models` has them
    models.shard(torch.device("cpu"), bf16=True)
    trainer = make_trainer(models=models, bf16=True)
    policy = trainer.models.trained_policy()
    write_json(folder / f"{rank}.json", {"bytes": held(trainer), "device": str(policy.device)})


def test_each_process_holds_its_share_of_the_bytes(tmp_path: Path):
    """In bf16: fp32 weights and two Adam moments of the policy and of the value model, bf16 of the two that are frozen:
    2 x 12 + 2 x 2 = 28 bytes a parameter, and 4 more of the gradient of the one that learns at a time: 32 over the
    number of processes. The first process alone puts the trained policy together."""
    networks = small_models(PPOSettings(**SETTINGS)).trained.values()
    policy, value = (sum(p.numel() for p in network.parameters()) for network in networks)
    in_processes(2, hold_shares, tmp_path)

    shares = [read_json(tmp_path / f"{rank}.json") for rank in range(2)]
    whole = (12 + 2) * (policy + value)
    assert sum(share["bytes"] for share in shares) == pytest.approx(whole, rel=0.02)  # a step counter each
    assert max(share["bytes"] for share in shares) <= 0.55 * whole  # rows of 8 and 1 part unevenly
    assert [share["device"] for share in shares] == ["cpu", "meta"]
