import json
from dataclasses import replace

import pytest

from bench import data
from bench.data import FilesConfig, SyntheticConfig
from bench.errors import DataError

SMALL = SyntheticConfig(demonstrations=8, preference_pairs=8, judge_pairs=4, validation_pairs=4, eval_prompts=4)


def test_the_built_in_world_follows_the_seed():
    world = data.load(SMALL, seed=0)
    assert data.split_hash(world) == data.split_hash(data.load(SMALL, seed=0))
    assert data.split_hash(world) != data.split_hash(data.load(SMALL, seed=1))


def test_files_are_split_alike_for_every_seed(tmp_path):
    rows = [{"prompt": f"POST: post {i}\n\nTL;DR:", "chosen": "a", "rejected": "b"} for i in range(80)]
    rows = [row | {"reference": "human", "completion": "human"} for row in rows]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = FilesConfig(root=str(tmp_path))
    config = replace(
        config,
        demonstrations=replace(config.demonstrations, unsplit="all.jsonl"),
        preferences=replace(config.preferences, unsplit="all.jsonl"),
    )
    loaded = data.load(config, seed=0)
    assert data.split_hash(loaded) == data.split_hash(data.load(config, seed=1))
    n_pairs = sum(len(rows) for rows in loaded.preferences.values())
    assert n_pairs + len(loaded.eval_prompts) == 80


def test_a_leak_is_refused_whatever_the_source(monkeypatch):
    world = data.load(SMALL, seed=0)
    leaky = replace(world, preferences={**world.preferences, "judge": world.preferences["validation"]})
    monkeypatch.setattr(data, "build", lambda config, seed: leaky)
    with pytest.raises(DataError, match="the same post is in two splits"):
        data.load(SMALL, seed=0)
