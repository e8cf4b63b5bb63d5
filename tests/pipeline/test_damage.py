"""Whatever is damaged in a finished stage, the same command finds it, makes it again, and gives the same numbers."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_at_random import without_costs

from bench.config import RunConfig
from bench.evaluate.best_of_n import BestOfNSettings
from bench.files import read_json
from bench.pipeline.runner import run

KINDS = (
    "stage.json training.jsonl checksums.json model.safetensors config.json generation_config.json tokenizer.json"
    " tokenizer_config.json reward.json completions.jsonl candidates.jsonl logps.jsonl probe.json"
).split()
"""Every kind of file that a stage leaves."""


def flipped(whole: bytes, moments: random.Random) -> bytes:
    position = moments.randrange(len(whole))
    return whole[:position] + bytes([whole[position] ^ (1 << moments.randrange(8))]) + whole[position + 1 :]


def truncated(whole: bytes, moments: random.Random) -> bytes:
    return whole[: moments.randrange(len(whole))]


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [KINDS[1::4], pytest.param(KINDS, marks=pytest.mark.long)], ids=["some", "all"])
def test_every_kind_of_file_damaged_at_random(
    kinds: list[str], make_config: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]
):
    config = make_config(arms=("sft", "best_of_n", "dpo"), best_of_n=BestOfNSettings(2))
    folder = run(config, "the command")
    metrics, moments = without_costs(read_json(folder / "metrics.json")), random.Random(0)
    stages = Path(config.results_dir) / ".cache" / "stages"
    files = sorted(path for path in stages.glob("[!.]*/*") if path.stat().st_size)
    assert {path.name for path in files} == set(KINDS)  # no kind is forgotten

    for i, kind in enumerate(kinds):
        path = moments.choice([path for path in files if path.name == kind])
        whole = path.read_bytes()
        path.write_bytes((flipped, truncated)[i % 2](whole, moments))
        shutil.rmtree(folder)  # or there would be nothing to do
        capsys.readouterr()

        assert run(config, "the command") == folder
        said = capsys.readouterr().err
        assert f"stage {path.parent.name}: {kind} " in said and "made again" in said, path
        made = {name for name, stage in read_json(folder / "run.json")["stages"].items() if not stage["reused"]}
        assert made == {path.parent.name.rpartition("-")[0]}  # it came out as it was: nothing behind it is made again
        assert without_costs(read_json(folder / "metrics.json")) == metrics, path
        if kind not in ("stage.json", "training.jsonl", "checksums.json"):  # which tell times
            assert path.read_bytes() == whole
