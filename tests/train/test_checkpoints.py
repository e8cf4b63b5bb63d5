"""A trainer that is killed goes on where its newest whole checkpoint stands, and ends where it would have ended."""

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import a_context
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from bench.models.loading import RewardModel, load_policy, save_policy
from bench.records import Demonstration, PreferencePair
from bench.train.checkpoints import CheckpointCallback, newest_checkpoint
from bench.train.context import RolloutBudget, TrainingContext
from bench.train.dpo import pair_logps, train_dpo
from bench.train.log import TrainingLog
from bench.train.reward import train_reward_model
from bench.train.rloo import train_rloo
from bench.train.settings.dpo import DPOSettings
from bench.train.settings.reward import RewardSettings
from bench.train.settings.rloo import RLOOSettings
from bench.train.settings.sft import SFTSettings
from bench.train.sft import train_sft

CPU = torch.device("cpu")
WORDS = "cat dog cake party river ball sugar mat".split()
PAIRS = [
    PreferencePair(
        str(i), f"POST: the {word} and the {WORDS[i - 3]}. TL;DR:", f"the {word}.", f"no {word} at the {word}"
    )
    for i, word in enumerate(WORDS)
]
BATCH: dict[str, Any] = dict(learning_rate=1e-3, batch_size=2, micro_batch_size=2, warmup_steps=3)
STEPS = 12  # a kill falls into any of the three epochs
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # the processes started here have one
Training = Callable[[Path, float], tuple[nn.Module, TrainingLog]]


OTHERS_SHOW = ["sft bf16", "reward bf16", "reward"]  # whose trainer and optimizer those of the others are


@pytest.fixture(
    params=[
        *("sft", "dpo", "rloo", "dpo bf16"),
        *(pytest.param(method, marks=pytest.mark.long) for method in OTHERS_SHOW),
    ]
)
def training(request, make_policy, make_classifier, tokenizer, tmp_path) -> Training:
    """training(scratch, checkpoint_every_s): the trained network and its log."""
    method, _, bf16 = request.param.partition(" ")

    def context(scratch: Path, every_s: float) -> TrainingContext:
        return a_context(scratch, method, bf16=bool(bf16), checkpoint_every_s=every_s)

    def sft(scratch: Path, every_s: float) -> tuple[nn.Module, TrainingLog]:
        rows = [Demonstration(pair.id, pair.prompt, pair.chosen) for pair in PAIRS]
        model = make_policy()
        log = train_sft(model, tokenizer, rows, SFTSettings(**BATCH), context(scratch, every_s), epochs=3)
        return model, log

    def reward(scratch: Path, every_s: float) -> tuple[nn.Module, TrainingLog]:
        model = make_classifier()
        log = train_reward_model(model, tokenizer, PAIRS, RewardSettings(**BATCH), context(scratch, every_s), epochs=3)
        return model, log

    def dpo(scratch: Path, every_s: float) -> tuple[nn.Module, TrainingLog]:
        save_policy(make_policy(), tokenizer, tmp_path / "sft")
        logps = None if bf16 else pair_logps(load_policy(tmp_path / "sft", CPU), tokenizer, PAIRS, batch_size=4)
        settings = DPOSettings(**BATCH, optimizer="rmsprop")
        return train_dpo(tmp_path / "sft", tokenizer, PAIRS, logps, settings, context(scratch, every_s), epochs=3)

    def rloo(scratch: Path, every_s: float) -> tuple[nn.Module, TrainingLog]:
        save_policy(make_policy(), tokenizer, tmp_path / "sft")
        return train_rloo(
            tmp_path / "sft",
            RewardModel(make_classifier(seed=1), shift=0.5),
            tokenizer,
            [pair.prompt for pair in PAIRS],
            RLOOSettings(
                **{**BATCH, "batch_size": 4, "micro_batch_size": 2}, num_generations=2, missing_eos_score=None
            ),
            RolloutBudget(0.7, episodes=4 * STEPS, max_new_tokens=6),
            context(scratch, every_s),
        )

    return {"sft": sft, "reward": reward, "dpo": dpo, "rloo": rloo}[method]


def kill_at_a_random_moment(training: Training, folder: Path) -> Path:
    """Run the training in a process of its own, saving at every step, and end it as `kill -9` does: what it left."""

    def child(scratch: Path) -> None:
        torch.set_num_threads(1)  # the parent's OpenMP threads are not there after a fork
        training(scratch, 0.0)

    for attempt in range(5):  # until the kill comes before the end
        scratch = folder / str(attempt)
        process = multiprocessing.get_context("fork").Process(target=child, args=(scratch,))
        process.start()
        while process.is_alive() and not list(scratch.glob("checkpoint-*/whole.json")):
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2 / 2**attempt))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        checkpoint = newest_checkpoint(scratch)
        if process.exitcode == -signal.SIGKILL and checkpoint is not None and len(checkpoint.rows) < STEPS:
            return scratch
    pytest.fail("never killed in time")


def without_times(rows: TrainingLog) -> TrainingLog:
    return [{key: value for key, value in row.items() if key not in ("wall_s", "step_time")} for row in rows]


def test_killed_and_continued_is_as_if_it_had_not_been_killed(training: Training, tmp_path: Path):
    whole, whole_log = training(tmp_path / "whole", 300.0)
    assert not list((tmp_path / "whole").glob("checkpoint-*"))  # nothing so short is saved

    killed = kill_at_a_random_moment(training, tmp_path / "killed")
    checkpoint = newest_checkpoint(killed)
    assert checkpoint is not None and 1 <= len(checkpoint.rows) < STEPS
    continued, continued_log = training(killed, 300.0)

    for (name, expected), found in zip(whole.named_parameters(), continued.parameters(), strict=True):
        assert torch.equal(found, expected), name
    assert without_times(continued_log) == without_times(whole_log)
    assert [row["step"] for row in continued_log] == list(range(1, STEPS + 1))
    times: list[Any] = [row["wall_s"] for row in continued_log]
    assert times == sorted(times) and times[len(checkpoint.rows) - 1] == checkpoint.rows[-1]["wall_s"]


def test_what_was_cut_off_while_it_was_written_is_thrown_away(tmp_path: Path):
    for step, whole in ((2, True), (9, True), (10, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").write_text("weights")
        if whole:
            (tmp_path / f"checkpoint-{step}" / "whole.json").write_text(
                json.dumps({"rows": [{"step": step}], "samples": []})
            )

    assert newest_checkpoint(tmp_path) == (tmp_path / "checkpoint-9", [{"step": 9}], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-9"]
    assert newest_checkpoint(tmp_path / "nothing there") is None


def test_saving_takes_at_most_two_percent_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Steps of 10 s; saving takes 3 s, later 30 s; the interval is 60 s, then 50 times what saving took."""
    clock, saved = [0.0], []
    monkeypatch.setattr("bench.train.checkpoints.time.perf_counter", lambda: clock[0])
    callback = CheckpointCallback([], every_s=60.0)
    arguments, state = TrainingArguments(output_dir=str(tmp_path)), TrainerState(max_steps=400)
    callback.on_train_begin()
    for state.global_step in range(1, 401):
        clock[0] += 10
        control = TrainerControl()
        callback.on_step_end(arguments, state, control)
        if control.should_save:
            saved.append(state.global_step)
            clock[0] += 3 if len(saved) < 3 else 30
            (tmp_path / f"checkpoint-{state.global_step}").mkdir()
            callback.on_save(arguments, state, control)

    # 60 s are 6 steps; 50 x 3 s are 15; 50 x 30 s are 150, and the last step of 400 needs no checkpoint.
    assert saved == [6, 21, 36, 186, 336]
