"""Two processes that share a batch are one process: samples, losses, gradients and parameters."""

import multiprocessing
import socket

import pytest
import torch
from ppo_world import VARIANTS, make_trainer, train_all, train_variant
from safetensors.torch import load_file

from bench.errors import ConfigError
from bench.files import read_json
from bench.train.ranks import Ranks

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["bench.train.ppo"])
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # the processes started here have one


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_what_one_does(tmp_path):
    """Batches of 4 whose completions differ in length, so that a mean per process would show."""
    port = free_port()
    names = [*VARIANTS, "bf16"]
    processes = [PROCESSES.Process(target=train_all, args=(tmp_path, rank, 2, port, names)) for rank in range(2)]
    for process in processes:
        process.start()
    expected = {name: train_variant(name) for name in VARIANTS}
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]

    largest = 0.0
    for name, (parameters, log) in expected.items():
        assert len({row["length_tokens"] for row in log}) > 1
        for rank in range(2):
            found = load_file(tmp_path / f"{name}-{rank}.safetensors")
            for key, value in parameters.items():
                torch.testing.assert_close(found[key], value, atol=1e-6, rtol=1e-6)
                largest = max(largest, (found[key] - value).abs().max().item())
            for row, other in zip(read_json(tmp_path / f"{name}-{rank}.json"), log, strict=True):
                for key in row.keys() - {"wall_s"}:
                    assert row[key] == pytest.approx(other[key], rel=1e-5, abs=1e-6), (name, row["step"], key)
    for name in names:
        # The processes hold the same numbers to the last bit: they do not drift apart. What one process does with a
        # batch in bf16 they do not repeat to the token: rows are sampled beside other rows, which rounds otherwise.
        one, two = (load_file(tmp_path / f"{name}-{rank}.safetensors") for rank in range(2))
        assert all(torch.equal(one[key], two[key]) for key in one)
        assert {value.dtype for value in one.values()} == {torch.float32}
    print(f"largest difference of a parameter: {largest:.1e}")


def test_a_process_without_rows_adds_zeros_of_the_gradients_type(monkeypatch):
    summed = []
    monkeypatch.setattr(torch.distributed, "all_reduce", summed.append)
    plain, low = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3).bfloat16())
    low.grad_dtype = torch.float32  # as the optimizer over fp32 masters has it
    Ranks(0, 2).sum_gradients([plain, low])
    assert [(g.tolist(), g.dtype) for g in summed] == [([0.0] * 2, torch.float32), ([0.0] * 3, torch.float32)]


def test_the_shares_are_the_rows():
    rows = torch.tensor([4, 7, 1, 0, 9])
    shares = [Ranks(index, 3).own(rows).tolist() for index in range(3)]
    assert shares == [[4, 0], [7, 9], [1]]


def test_one_process_gathers_its_own_rows_in_their_order():
    whole = Ranks().gather(torch.tensor([[True], [False]]), torch.tensor([1, 0]), total=2)
    assert whole.dtype is torch.bool and whole.tolist() == [[False], [True]]


def test_fewer_episodes_than_processes_are_refused(monkeypatch):
    monkeypatch.setattr(Ranks, "current", classmethod(lambda cls, device: Ranks(0, 8)))
    with pytest.raises(ConfigError, match=r"ppo\.batch_size must be at least the 8 processes, got 4"):
        make_trainer()
