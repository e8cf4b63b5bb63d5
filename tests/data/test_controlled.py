"""Real posts whose pairs are made here: which posts, which samples are paired, and who wins."""

import math
from pathlib import Path

import pytest

from bench.data import load
from bench.data.config import ControlledConfig, DemonstrationFilesConfig, PreferenceFilesConfig
from bench.data.controlled import chance, excerpt, excerpt_of, pair_samples
from bench.errors import ConfigError, DataError
from bench.files import read_jsonl, write_jsonl
from bench.records import PreferencePair

PLACE = PreferencePair("p/0", "post", "human", "human", "human")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two posts a split and kind; the second pair of each split has no human summary."""
    for split in ("train", "validation", "test"):
        prompts = [f"TITLE: {split} {i}\n\nPOST: {split} cat {i} slept. All day.\n\nTL;DR:" for i in range(4)]
        demonstrations = [{"id": f"d-{split}-{i}", "prompt": prompts[i], "completion": f"d {i}"} for i in (0, 1)]
        pairs = [
            {"id": f"p-{split}-{i}", "prompt": prompts[i], "chosen": "c", "rejected": "r", "reference": reference}
            for i, reference in ((2, "human"), (3, ""))
        ]
        write_jsonl(tmp_path / "demonstrations" / f"{split}.jsonl", demonstrations)
        write_jsonl(tmp_path / "preferences" / f"{split}.jsonl", pairs)
    return tmp_path


def test_every_post_with_a_human_summary_is_there_once_in_the_split_of_its_file(root: Path):
    data = load(ControlledConfig(root=str(root)), seed=0)
    assert data.awaits_labels and data.source["name"] == "controlled"
    for split in ("train", "validation"):
        ids = [f"d-{split}-0", f"d-{split}-1", f"p-{split}-2"]
        assert [d.id for d in data.demonstrations[split]] == ids
        assert [pair.id for pair in data.preferences[split]] == [f"{name}/{i}" for name in ids for i in (0, 1)]
    assert [prompt.id for prompt in data.eval_prompts] == ["d-test-0", "d-test-1", "p-test-2"]
    assert data.demonstrations["train"][2].completion == "human"
    assert "POST: train cat 0 slept. All day.\n\nTL;DR:" in data.demonstrations["train"][0].prompt


def test_of_preferences_the_posts_and_human_summaries_alone_are_read(root: Path):
    for split in ("train", "validation", "test"):  # nothing to choose between, and not even a column of it
        path = root / "preferences" / f"{split}.jsonl"
        write_jsonl(
            path, [{k: v for k, v in row.items() if k not in ("chosen", "rejected")} for row in read_jsonl(path)]
        )
    data = load(ControlledConfig(root=str(root)), seed=0)
    assert [d.id for d in data.demonstrations["train"]] == ["d-train-0", "d-train-1", "p-train-2"]
    none = PreferenceFilesConfig(train=None, validation=None, test=None)
    data = load(ControlledConfig(root=str(root), preferences=none), seed=0)
    assert [d.id for d in data.demonstrations["train"]] == ["d-train-0", "d-train-1"]
    assert [prompt.id for prompt in data.eval_prompts] == ["d-test-0", "d-test-1"]
    none = DemonstrationFilesConfig(train=None, validation=None, test=None)
    data = load(ControlledConfig(root=str(root), demonstrations=none), seed=0)
    assert [d.id for d in data.demonstrations["train"]] == ["p-train-2"]


def test_what_is_missing_is_said_with_settings_that_there_are(root: Path):
    with pytest.raises(
        DataError, match=r"no file matches 'x\.\*'.*; set data\.demonstrations\.train .* or to null where"
    ):
        load(ControlledConfig(root=str(root), demonstrations=DemonstrationFilesConfig(train="x.*")), seed=0)
    write_jsonl(root / "demonstrations" / "validation.jsonl", [])
    write_jsonl(root / "few.jsonl", [{"prompt": "POST: one\n\nTL;DR:", "completion": "one"}])
    files = DemonstrationFilesConfig(unsplit="few.jsonl"), PreferenceFilesConfig(None, None, None, None, None)
    with pytest.raises(DataError, match=r"no \w+ post with a human summary; give data\.demonstrations\.\w+, or"):
        load(ControlledConfig(root=str(root), demonstrations=files[0], preferences=files[1]), seed=0)


@pytest.mark.parametrize("prompt", ["POST: One two. Three four.\n\nTL;DR:", "One two. Three four.\n\nSummary:"])
def test_an_excerpt_of_a_prompt_is_of_its_post_or_its_text(prompt: str):
    assert excerpt_of(prompt, 3) == prompt.replace(" Three four.", "")


def test_posts_for_the_judge_are_no_arms(root: Path):
    data = load(ControlledConfig(root=str(root), judge_fraction=0.5, split_seed=3), seed=0)
    judge = {pair.prompt for pair in data.preferences["judge"]}
    assert judge and data.preferences["train"]
    assert not judge & {row.prompt for row in [*data.preferences["train"], *data.demonstrations["train"]]}


@pytest.mark.parametrize(
    ("max_words", "expected"),
    [
        (None, 'One two. "Three four!" Five\nsix. Seven'),
        (7, 'One two. "Three four!" Five\nsix. Seven'),
        (6, 'One two. "Three four!" Five\nsix.'),
        (5, 'One two. "Three four!" Five'),  # a line's end is a sentence's
        (4, 'One two. "Three four!"'),
        (3, "One two."),
        (1, "One"),
    ],
)
def test_an_excerpt_is_whole_sentences(max_words: int | None, expected: str):
    assert excerpt('One two. "Three four!" Five\nsix. Seven', max_words) == expected


def test_the_chance_of_the_better_one_is_bradley_terrys():
    # 0.2 apart at noise 0.1: 1 / (1 + e^-2)
    assert chance(0.2, 0.1) == pytest.approx(1 / (1 + math.exp(-2)))
    assert chance(-0.2, 0.1) == pytest.approx(1 / (1 + math.exp(2)))
    assert chance(0.0, 0.1) == 0.5
    assert (chance(1e6, 1e-6), chance(-1e6, 1e-6)) == (1.0, 0.0)


def test_labels_are_drawn_with_that_chance_from_seed_and_pair():
    def wins(seed: int) -> bool:
        found = pair_samples(PLACE, 0, ["good", "bad"], [0.5, 0.4], noise=0.1, seed=seed)
        assert found is not None and {found.pair.chosen, found.pair.rejected} == {"good", "bad"}
        assert (found.chosen_gold, found.rejected_gold) == ((0.5, 0.4) if found.pair.chosen == "good" else (0.4, 0.5))
        return found.pair.chosen == "good"

    share = sum(map(wins, range(4000))) / 4000
    expected = 1 / (1 + math.exp(-1))  # 0.731; four standard errors are 0.028
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))
    assert [wins(seed) for seed in range(20)] == [wins(seed) for seed in range(20)]


def test_the_first_pairs_share_no_sample_and_equal_samples_make_none():
    def pairs(*samples: str) -> list[set[str] | None]:
        found = [pair_samples(PLACE, k, samples, range(len(samples)), 1e-9, 0) for k in range(6)]
        return [None if one is None else {one.pair.chosen, one.pair.rejected} for one in found]

    assert pairs(*"abcd") == [{"a", "b"}, {"c", "d"}, {"a", "c"}, {"b", "d"}, {"a", "d"}, {"b", "c"}]
    assert pairs(*"aacd") == [{"c", "d"}, {"a", "c"}, {"a", "d"}, {"a", "d"}, {"a", "c"}, None]
    assert pairs(*"aaaa") == [None] * 6


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"samples_per_post": 1}, "samples_per_post"),
        ({"pairs_per_post": 7}, "pairs_per_post"),
        ({"pairs_per_post": 0}, "pairs_per_post"),
        ({"sampling_temperature": 0.0}, "sampling_temperature"),
        ({"preference_noise": 0.0}, "preference_noise"),
        ({"max_post_words": 0}, "max_post_words"),
        ({"judge_fraction": 1.0}, "judge_fraction"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict, key: str):
    with pytest.raises(ConfigError, match=rf"^data\.{key} must be"):
        ControlledConfig(**changes)
