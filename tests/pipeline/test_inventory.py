"""What the stage cache holds, who names it, and what may go."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cost import StageCost
from bench.files import write_json
from bench.pipeline.cache import StageCache
from bench.pipeline.inventory import Entry, inventory, prunable, remove
from bench.pipeline.locks import alone
from bench.pipeline.stage_folder import lock_of, stages_dir
from bench.train.log import TrainingLog

DAY = 86400


def never(folder: Path) -> tuple[StageCost, TrainingLog]:
    raise AssertionError("it was there")


@pytest.fixture
def make_stage(tmp_path: Path) -> Callable[..., Path]:
    """make_stage(name, used): the folder of a finished stage, last used at that time."""

    def make(name: str, used: float = 1e9, weights: int = 1000) -> Path:
        def build(folder: Path) -> tuple[StageCost, TrainingLog]:
            (folder / "model").write_bytes(bytes(weights))
            return StageCost(), []

        folder = StageCache(stages_dir(tmp_path)).run(name, "code", {}, build).folder
        for path in (folder / "stage.json", lock_of(folder)):
            os.utime(path, (used, used))
        return folder

    return make


def entry(name: str, used: float = 0.0, size: int = 10, kind: str = "finished", *named_by: str) -> Entry:
    return Entry(Path(name), name, "key", kind, size, 0.0, used, named_by)  # pyright: ignore[reportArgumentType]


def names(entries: list[Entry]) -> list[str]:
    return [found.stage for found in entries]


def test_everything_is_found_with_its_size_its_times_and_who_names_it(make_stage: Callable[..., Path], tmp_path: Path):
    sft, dpo, ppo = make_stage("sft", used=3 * DAY), make_stage("dpo"), make_stage("ppo")
    write_json(tmp_path / "a" / "s0" / "run.json", {"status": "running", "cache": [sft.name, dpo.name]})
    key = sft.name.rpartition("-")[2]
    write_json(tmp_path / "b" / "s1" / "run.json", {"stages": {"sft": {"key": key, "reused": True}}})  # an earlier one
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text("{")  # and one that is broken
    half = stages_dir(tmp_path) / ".reward-0123456789abcdef.partial" / "checkpoint"
    half.mkdir(parents=True)
    (half / "state").write_bytes(bytes(7))
    ppo.rename(ppo.with_name(f".{ppo.name}.damaged"))

    found = {entry.stage: entry for entry in inventory(tmp_path)}

    assert list(found) == ["dpo", "ppo", "reward", "sft"]
    assert {name: entry.kind for name, entry in found.items()} == {
        "dpo": "finished", "ppo": "damaged", "reward": "unfinished", "sft": "finished",
    }  # fmt: skip
    assert {name: entry.named_by for name, entry in found.items()} == {
        "dpo": ("a/s0",), "ppo": (), "reward": (), "sft": ("a/s0", "b/s1"),
    }  # fmt: skip
    assert found["sft"].bytes == sum(path.stat().st_size for path in sft.iterdir()) > 1000
    assert (found["reward"].bytes, found["reward"].key) == (7, "0123456789abcdef")
    assert found["sft"].made == found["sft"].used == 3 * DAY
    StageCache(stages_dir(tmp_path)).run("sft", "code", {}, never)
    assert next(entry for entry in inventory(tmp_path) if entry.stage == "sft").used > 1e9


def test_what_may_go():
    old, unnamed = entry("old", 1.0, 10, "finished", "run"), entry("unnamed", 3.0, 20)
    new, half = entry("new", 4.0, 30, "finished", "run"), entry("half", 2.0, 40, "unfinished")
    broken = entry("broken", 9.0, 50, "damaged")
    everything = [new, broken, unnamed, old, half]

    assert names(prunable(everything, unnamed=True)) == ["broken", "unnamed"]
    assert names(prunable(everything, unused_since=3.0)) == ["broken", "old", "half"]
    assert names(prunable(everything, unused_since=3.0, unnamed=True)) == ["broken"]
    # 100 bytes beside what is damaged
    assert names(prunable(everything, to_bytes=100)) == ["broken"]
    assert names(prunable(everything, to_bytes=99)) == ["broken", "old"]
    assert names(prunable(everything, to_bytes=89)) == ["broken", "old", "half"]
    assert names(prunable(everything, to_bytes=0)) == ["broken", "old", "half", "unnamed", "new"]
    assert names(prunable(everything, to_bytes=0, unnamed=True)) == ["broken", "unnamed"]


def test_what_a_process_uses_or_builds_stays(make_stage: Callable[..., Path], tmp_path: Path):
    sft, dpo = make_stage("sft"), make_stage("dpo")
    half = dpo.with_name(".ppo-0123456789abcdef.partial")
    half.mkdir()
    cache = StageCache(stages_dir(tmp_path))
    cache.run("sft", "code", {}, never)

    with (
        alone(lock_of(dpo), "stage dpo", "a run"),
        alone(lock_of(dpo.with_name("ppo-0123456789abcdef")), "stage ppo", "a run"),
    ):
        found = {entry.stage: entry for entry in inventory(tmp_path)}
        expected = {"sft": "in use", "dpo": "locked", "ppo": "being built"}
        assert {name: entry.busy() for name, entry in found.items()} == expected
        assert {name: remove(entry) for name, entry in found.items()} == {**expected, "ppo": "locked"}
        assert sft.exists() and dpo.exists() and half.exists()

    del cache
    assert [entry.busy() for entry in inventory(tmp_path)] == [None, None, None]
    assert [remove(entry) for entry in inventory(tmp_path)] == [None, None, None]
    assert inventory(tmp_path) == []


def test_a_removed_stage_is_made_again(make_stage: Callable[..., Path], tmp_path: Path):
    make_stage("sft")
    (stage,) = inventory(tmp_path)

    assert remove(stage) is None
    assert remove(stage) is None  # by two who prune at once
    assert make_stage("sft").exists()
