"""A stage is there whole or not at all, and is made once."""

import errno
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from bench.cost import StageCost
from bench.errors import ResourceError
from bench.pipeline.cache import StageCache
from bench.train.log import TrainingLog

COST = StageCost(wall_s=2.0, device_hours=0.5, tokens_trained=7)
LOG: TrainingLog = [{"step": 1, "loss": 0.5}]


class Builder:
    """Counts how often it builds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls, self.seconds = 0, seconds

    def __call__(self, folder: Path) -> tuple[StageCost, TrainingLog]:
        self.calls += 1
        time.sleep(self.seconds)
        (folder / "model").write_text("weights")
        return COST, LOG


def folders(root: Path) -> list[str]:
    """What the cache holds besides its locks."""
    return [name for name in os.listdir(root) if not name.endswith(".lock")]


def test_a_finished_stage_is_reused_with_what_it_cost(tmp_path: Path):
    build = Builder()
    first = StageCache(tmp_path).run("sft", "code", {"lr": 1.0}, build)
    second = StageCache(tmp_path).run("sft", "code", {"lr": 1.0}, build)

    assert build.calls == 1
    assert (first.reused, second.reused) == (False, True)
    assert (second.folder, second.key) == (first.folder, first.key)
    assert second.cost == first.cost == COST
    assert second.log == first.log == LOG
    assert (second.folder / "model").read_text() == "weights"


@pytest.mark.parametrize(
    ("name", "inputs"), [("sft", {"lr": 2.0}), ("sft", {"lr": 1.0, "x": None}), ("dpo", {"lr": 1.0})]
)
def test_other_inputs_are_another_stage(name: str, inputs: dict, tmp_path: Path):
    build = Builder()
    first = StageCache(tmp_path).run("sft", "code", {"lr": 1.0}, build)
    other = StageCache(tmp_path).run(name, "code", inputs, build)

    assert not other.reused and other.folder != first.folder


def test_other_code_is_another_stage(tmp_path: Path):
    build = Builder()
    StageCache(tmp_path).run("sft", "code", {}, build)
    StageCache(tmp_path).run("sft", "edited", {}, build)

    assert build.calls == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError, FileNotFoundError])
def test_an_interrupted_stage_leaves_no_folder_and_is_built_again(interruption: type[BaseException], tmp_path: Path):
    def interrupted(folder: Path) -> tuple[StageCost, TrainingLog]:
        (folder / "model").write_text("half")
        raise interruption

    with pytest.raises(interruption):  # and no ResourceError: a bug must not look like a full disk
        StageCache(tmp_path).run("sft", "code", {}, interrupted)
    assert folders(tmp_path) == []

    stage = StageCache(tmp_path).run("sft", "code", {}, Builder())
    assert not stage.reused
    assert (stage.folder / "model").read_text() == "weights"


def test_what_a_killed_process_left_is_built_again(tmp_path: Path):
    stage = StageCache(tmp_path).run("sft", "code", {}, Builder())
    (stage.folder / "stage.json").unlink()
    (tmp_path / f".{stage.folder.name}.partial").mkdir()
    (tmp_path / f".{stage.folder.name}.partial" / "half").touch()

    again = StageCache(tmp_path).run("sft", "code", {}, Builder())

    assert not again.reused
    assert sorted(os.listdir(again.folder)) == ["model", "stage.json", "training.jsonl"]
    assert folders(tmp_path) == [again.folder.name]


TICK = 0.01  # file times are those of the kernel's last tick


def test_a_killed_stage_goes_on_from_its_checkpoint(tmp_path: Path):
    """A real `kill -9`. The record adds the time up to the checkpoint, and FLOPs at the last attempt's rate."""

    def killed(folder: Path) -> tuple[StageCost, TrainingLog]:
        (folder / "model").write_text("half")
        (folder / "checkpoint").mkdir()
        time.sleep(0.3)
        (folder / "checkpoint" / "state").write_text("step 5")
        time.sleep(60)
        raise AssertionError

    process = multiprocessing.get_context("fork").Process(
        target=StageCache(tmp_path).run, args=("sft", "code", {}, killed)
    )
    start = time.perf_counter()
    process.start()
    while not list(tmp_path.glob(".sft-*.partial/checkpoint/state")):
        time.sleep(0.01)
    until_seen = time.perf_counter() - start
    time.sleep(0.3)  # work behind the checkpoint is done again, and counts when it is
    process.kill()
    process.join()

    seen: list[str] = []

    def continued(folder: Path) -> tuple[StageCost, TrainingLog]:
        seen.extend([*sorted(os.listdir(folder)), (folder / "checkpoint" / "state").read_text()])
        (folder / "model").write_text("weights")
        return StageCost(wall_s=2.0, device_hours=2.0, gpu_hours=4.0, flops=1000, tokens_trained=7), LOG

    stage = StageCache(tmp_path).run("sft", "code", {}, continued)

    assert seen == ["attempt.json", "checkpoint", "step 5"]  # and no half of a model
    assert sorted(os.listdir(stage.folder)) == ["model", "stage.json", "training.jsonl"]
    assert folders(tmp_path) == [stage.folder.name]
    earlier = stage.cost.wall_s - 2.0
    assert 0.3 - TICK <= earlier <= until_seen
    assert stage.cost.device_hours == pytest.approx(2.0 * (1 + earlier / 2))
    assert stage.cost.gpu_hours == pytest.approx(4.0 * (1 + earlier / 2))
    assert stage.cost.flops == pytest.approx(1000 * (1 + earlier / 2), abs=1)
    assert stage.cost.tokens_trained == 7  # read off the log, which is whole


def test_an_attempt_that_saved_nothing_new_adds_nothing(tmp_path: Path):
    saved: list[float] = []

    def interrupted(folder: Path) -> tuple[StageCost, TrainingLog]:
        (folder / "checkpoint").mkdir(exist_ok=True)
        if not (folder / "checkpoint" / "state").exists():
            (folder / "checkpoint" / "state").touch()
            saved.append(time.perf_counter() - start)
        time.sleep(0.4)
        raise KeyboardInterrupt

    start = time.perf_counter()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            StageCache(tmp_path).run("sft", "code", {}, interrupted)

    (until_saved,) = saved
    added = StageCache(tmp_path).run("sft", "code", {}, Builder()).cost.wall_s - COST.wall_s
    assert 0 <= added <= until_saved


# safetensors and tokenizers write from Rust and raise no OSError
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_disk_full_is_one_line_and_leaves_nothing(error: Exception, tmp_path: Path):
    def full(folder: Path) -> tuple[StageCost, TrainingLog]:
        (folder / "model").write_text("half")
        raise error

    with pytest.raises(ResourceError, match=r"^cannot write stage sft under .*: No space left on device; free disk"):
        StageCache(tmp_path).run("sft", "code", {}, full)

    assert folders(tmp_path) == []


def test_a_cache_below_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(ResourceError, match=r"^cannot write stage sft under .*: Not a directory; .*results_dir$"):
        StageCache(tmp_path / "file" / "stages").run("sft", "code", {}, Builder())


def test_two_that_want_one_stage_at_once_build_it_once(tmp_path: Path):
    build, stages = Builder(seconds=0.2), []
    threads = [
        threading.Thread(target=lambda: stages.append(StageCache(tmp_path).run("sft", "code", {}, build)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert build.calls == 1
    assert sorted(stage.reused for stage in stages) == [False, True]
