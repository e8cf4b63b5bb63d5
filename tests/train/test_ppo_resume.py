"""A PPO run that was killed goes on to the parameters of the run that was not, bit by bit."""

import multiprocessing
import os
import random
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_world import (
    BF16,
    CRITIC_FIRST,
    PROMPTS,
    VARIANTS,
    make_trainer,
    make_transformer_trainer,
    train_all,
    train_variant,
)
from safetensors.torch import load_file

from bench.errors import RunFolderError
from bench.files import read_json
from bench.train import ppo_checkpoint
from bench.train.log import TrainingLog

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["bench.train.ppo"])
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # the processes started here have one


def without_time(log: TrainingLog) -> TrainingLog:
    return [{key: value for key, value in row.items() if key != "wall_s"} for row in log]


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == []


class Killed(Exception):
    """Stands for the process's end."""


@pytest.mark.parametrize("variant", [*VARIANTS, *BF16, *CRITIC_FIRST])
def test_two_updates_a_kill_and_two_more_are_four(variant, tmp_path, monkeypatch):
    expected, log = train_variant(variant)
    assert len(log) == 4
    saves = 0
    save = ppo_checkpoint.save

    def dies_after_the_second(folder, state):
        nonlocal saves
        save(folder, state)
        saves += 1
        if saves == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ppo_checkpoint, "save", dies_after_the_second)
        with pytest.raises(Killed):
            train_variant(variant, tmp_path)
    torch.manual_seed(99)  # the global generator plays no part
    found, resumed = train_variant(variant, tmp_path)
    assert_same(found, expected)
    assert without_time(resumed) == without_time(log)
    times: list[Any] = [row["wall_s"] for row in resumed]
    assert all(b > a for a, b in pairwise(times))  # the clock goes on


def kill_at_a_random_moment(root: Path, duration: float) -> Path:
    """The folder of a process that was ended, as `kill -9` does it, somewhere in its `duration` seconds."""
    for attempt in range(5):  # until the kill comes before the end
        folder = root / str(attempt)
        process = PROCESSES.Process(target=train_all, args=(folder,))
        process.start()
        while process.is_alive() and not any(folder.rglob("*.safetensors")):
            time.sleep(0.002)
        moment = random.uniform(0, duration / 2**attempt)
        process.join(moment)
        assert process.pid is not None
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode == -signal.SIGKILL:
            whole = [name for name in VARIANTS if (folder / f"{name}-0.json").exists()]
            print(f"killed {moment:.2f} s after the first checkpoint; finished were {whole}")
            return folder
    pytest.fail("never killed in time")


def test_a_process_killed_at_a_random_moment_goes_on(tmp_path):
    """kill -9 of a process that runs all variants one after the other; the same call again finishes."""
    begin = time.perf_counter()
    expected = {name: train_variant(name) for name in VARIANTS}
    folder = kill_at_a_random_moment(tmp_path, time.perf_counter() - begin)

    process = PROCESSES.Process(target=train_all, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0
    for name, (parameters, log) in expected.items():
        assert_same(load_file(folder / f"{name}-0.safetensors"), parameters)
        assert without_time(read_json(folder / f"{name}-0.json")) == without_time(log)


def test_a_finished_run_is_only_read(tmp_path):
    trainer = make_trainer(episodes=8, scratch=tmp_path, checkpoint_every_s=0.0)
    log = trainer.train(PROMPTS)
    again = make_trainer(episodes=8, scratch=tmp_path)
    again.collect = None  # type: ignore[method-assign]  (there is nothing left to do)
    assert again.train(PROMPTS) == log
    for a, b in zip(again.models.policy.parameters(), trainer.models.policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    make_trainer(episodes=8, scratch=tmp_path, checkpoint_every_s=0.0).train(PROMPTS)
    for other in ({"beta": 0.07}, {"seed": 1}, {"temperature": 1.0}, {"max_new_tokens": 5}, {"episodes": 12}):
        with pytest.raises(
            RunFolderError, match=r"ppo\.safetensors is the checkpoint of a PPO run with other settings"
        ):
            make_trainer(**{"episodes": 8, "scratch": tmp_path, **other}).train(PROMPTS)


def test_a_half_written_checkpoint_leaves_the_last_one_in_place(tmp_path, monkeypatch):
    ppo_checkpoint.save(tmp_path, ({"x": torch.ones(3)}, {"run": "a"}))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        ppo_checkpoint.save(tmp_path, ({"x": torch.zeros(3)}, {"run": "a"}))
    found = ppo_checkpoint.load(tmp_path, "a")
    assert found is not None and torch.equal(found[0]["x"], torch.ones(3))


def test_adapters_are_saved_without_the_weights_that_do_not_move(tmp_path):
    trainer = make_transformer_trainer(lora_rank=2, scratch=tmp_path, checkpoint_every_s=0.0)
    trainer.train(PROMPTS)
    names = set(load_file(tmp_path / "ppo.safetensors"))
    networks = {name for name in names if name.startswith(("policy.", "value."))}
    assert networks and all("lora_" in name or name == "value.score.weight" for name in networks)


def test_saving_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    """A save of 1 s is not repeated before 50 s have passed, whatever the interval; 0 saves every time."""
    now = 0.0
    saves: list[float] = []

    def slow_save(*_):
        nonlocal now
        now += 1.0
        saves.append(now)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(ppo_checkpoint, "save", slow_save)
    for every_s, expected in ((10.0, [11.0, 62.0, 113.0]), (0.0, [1.0, 2.0, 3.0])):
        now, saves[:] = 0.0, []
        saver = ppo_checkpoint.Saver(every_s)
        while len(saves) < 3:
            if saver.is_due():
                saver.save(tmp_path, ({}, {}))
            if every_s:
                now += 1.0
        assert saves == expected
