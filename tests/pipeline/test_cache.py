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
from bench.pipeline.locks import is_in_use
from bench.train.log import TrainingLog

COST = StageCost(wall_s=2.0, device_hours=0.5, tokens_trained=7)
LOG: TrainingLog = [{"step": 1, "loss": 0.5}]
FILES = ["checksums.json", "model", "stage.json", "training.jsonl"]


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
    assert sorted(os.listdir(again.folder)) == FILES
    assert sorted(folders(tmp_path)) == [f".{again.folder.name}.damaged", again.folder.name]


TICK = 0.01  # file times are those of the kernel's last tick


def test_a_killed_stage_goes_on_from_its_checkpoint(tmp_path: Path):
    """A real `kill -9`. The record adds the time up to the checkpoint, and FLOPs at the last attempt's rate."""

    def killed(folder: Path) -> tuple[StageCost, TrainingLog]:
        (folder / "model").write_text("half")
        (folder / "checkpoint").mkdir()
        time.sleep(0.3)
        (folder / "checkpoint" / "state").write_text("step 5")
        time.sleep(0.2)
        (folder / "moments").mkdir()  # weights to choose from are no state to go on from
        (folder / "moments" / "step-4").write_text("weights")
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

    assert seen == ["attempt.json", "checkpoint", "moments", "step 5"]  # and no half of a model
    assert sorted(os.listdir(stage.folder)) == sorted([*FILES, "moments"])
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


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_stage_is_said_set_aside_and_made_again(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    build = Builder()
    stage = StageCache(tmp_path).run("sft", "code", {}, build)
    path = stage.folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])

    again = StageCache(tmp_path).run("sft", "code", {}, build)
    problem = "was altered" if name == "checksums.json" else "is 1 bytes too short"
    aside = tmp_path / f".{stage.folder.name}.damaged"
    assert capsys.readouterr().err == (
        f"stage {stage.folder.name}: {name} {problem}; it is set aside as {aside} and made again\n"
    )
    assert build.calls == 2 and not again.reused and (again.cost, again.log) == (COST, LOG)
    assert (aside / name).read_bytes() == whole[:-1]

    path.unlink()  # and once more, which replaces what was set aside
    assert not StageCache(tmp_path).run("sft", "code", {}, build).reused
    assert StageCache(tmp_path).run("sft", "code", {}, build).reused
    assert build.calls == 3 and not (aside / name).exists()


def test_a_stage_is_made_again_where_its_input_came_out_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A damaged SFT model is trained again, elsewhere, to other weights: PPO's KL to it would be to another model."""
    ppo = Builder()

    def run_ppo(sft: str) -> bool:
        made_from = {"sft": sft, "reward": "r"}
        return StageCache(tmp_path).run("ppo", "code", {}, ppo, made_from=made_from).reused

    assert [run_ppo(sft) for sft in ("a", "a", "b", "b")] == [False, True, False, True]
    assert ": its sft came out otherwise when made again; it is set aside as " in capsys.readouterr().err


def test_content_is_that_of_the_files_that_are_read(tmp_path: Path):
    def build(cost: StageCost, weights: str) -> str:
        def fill(folder: Path) -> tuple[StageCost, TrainingLog]:
            (folder / "model").write_text(weights)
            return cost, LOG

        return StageCache(tmp_path / f"{cost.wall_s}-{weights}").run("sft", "code", {}, fill).content

    assert build(COST, "weights") == build(StageCost(wall_s=3.0), "weights") != build(COST, "others")


def test_what_a_run_has_taken_is_in_use_as_long_as_its_cache_lives(tmp_path: Path):
    StageCache(tmp_path).run("sft", "code", {}, Builder())
    cache = StageCache(tmp_path)
    file = cache.run("sft", "code", {}, Builder()).folder / "checksums.json"

    assert is_in_use(file)
    del cache
    assert not is_in_use(file)


@pytest.mark.parametrize("what", ["same", "unreadable", "other"])
def test_a_checkpoint_is_gone_on_from_where_it_is_known_to_be_of_the_same_inputs(what: str, tmp_path: Path):
    def interrupted(folder: Path) -> tuple[StageCost, TrainingLog]:
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "state").touch()
        raise KeyboardInterrupt

    def continued(folder: Path) -> tuple[StageCost, TrainingLog]:
        seen.append((folder / "checkpoint" / "state").exists())
        return COST, LOG

    seen: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        StageCache(tmp_path).run("dpo", "code", {}, interrupted, made_from={"sft": "a"})
    (attempt,) = tmp_path.glob(".dpo-*.partial/attempt.json")
    if what == "unreadable":
        attempt.write_text("{")
    made_from = {"sft": "b" if what == "other" else "a"}

    cost = StageCache(tmp_path).run("dpo", "code", {}, continued, made_from=made_from).cost
    assert seen == [what == "same"]
    assert what == "same" or cost == COST
