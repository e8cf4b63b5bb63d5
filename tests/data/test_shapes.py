"""Preferences in the shapes that people have, each the same pairs as if written out."""

import json
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from bench.data.config import ColumnsConfig, DemonstrationFilesConfig, FilesConfig, PreferenceFilesConfig
from bench.data.hub import hub_folder
from bench.data.local import load_files
from bench.errors import ConfigError, DataError
from bench.files import write_jsonl


def post(i: int) -> str:
    return f"POST: number {i}\n\nTL;DR:"


def said(role: str, content: str) -> dict:
    return {"role": role, "content": content}


@pytest.fixture
def config(tmp_path: Path) -> FilesConfig:
    """Training pairs are for the test to write; held-out posts are there, and no judge's."""
    held_out = [{"prompt": post(100 + i), "chosen": "a", "rejected": "b", "reference": "r"} for i in range(2)]
    for name, row in zip(("validation", "test"), held_out, strict=True):
        write_jsonl(tmp_path / f"{name}.jsonl", [row])
    return FilesConfig(
        root=str(tmp_path),
        demonstrations_from_chosen=True,
        judge_fraction=0,
        preferences=PreferenceFilesConfig(train="train.*", validation="validation.jsonl", test="test.jsonl"),
    )


def held_out(config: FilesConfig, **cells) -> None:
    """Held-out files with these cells beside a prompt and two summaries."""
    for i, name in enumerate(("validation", "test")):
        row = {"prompt": post(100 + i), "chosen": "a", "rejected": "b", "reference": "r"} | cells
        write_jsonl(Path(config.root) / f"{name}.jsonl", [row])


def pairs(config: FilesConfig, rows: list[dict]) -> list[tuple[str, str, str]]:
    write_jsonl(Path(config.root) / "train.jsonl", rows)
    return [(pair.prompt, pair.chosen, pair.rejected) for pair in load_files(config).preferences["train"]]


EXPECTED = [(post(1), "good one", "bad one")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": post(1), "chosen": "good one", "rejected": "bad one"},
        {"prompt": post(1), "chosen": f"{post(1)} good one", "rejected": f"{post(1)} bad one"},
        {"prompt": [said("user", post(1))], "chosen": [said("assistant", "good one")],
         "rejected": [said("assistant", "bad one")]},
        {"chosen": [said("user", post(1)), said("assistant", "good one")],
         "rejected": [said("user", post(1)), said("assistant", "bad one")]},
        {"prompt": post(1), "chosen": [said("user", post(1)), said("assistant", "good one")],
         "rejected": [said("user", post(1)), said("assistant", "bad one")]},
    ],
    ids=["plain", "repeats the prompt", "explicit conversation", "implicit conversation", "both"],
)  # fmt: skip
def test_every_shape_is_the_same_pair(config: FilesConfig, row: dict):
    assert pairs(config, [row]) == EXPECTED


def test_a_system_message_stands_before_the_question(config: FilesConfig):
    asked = [said("system", "Be brief."), said("user", post(1))]
    row = {"prompt": asked, "chosen": "good one", "rejected": "bad one"}

    assert pairs(config, [row]) == [(f"Be brief.\n\n{post(1)}", "good one", "bad one")]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"chosen": [said("user", "a"), said("assistant", "b"), said("user", "c"), said("assistant", "d")]},
         "a conversation of user, assistant, user, assistant; one user message and one answer are understood"),
        ({"chosen": [said("user", post(1))]}, "a conversation without an answer"),
        ({"chosen": [said("user", "x"), said("assistant", "b")],
          "rejected": [said("user", "y"), said("assistant", "b")]}, "chosen and rejected answer different prompts"),
    ],
)  # fmt: skip
def test_a_conversation_that_is_no_pair_says_why(config: FilesConfig, change: dict, message: str):
    with pytest.raises(DataError, match=message):
        pairs(config, [{"prompt": post(1), "chosen": "good", "rejected": "bad"} | change])


def test_a_ranking_is_all_of_its_pairs(config: FilesConfig):
    held_out(config, best_first=["x", "y"])
    config = replace(config, columns=ColumnsConfig(ranking="best_first"))

    assert pairs(config, [{"prompt": post(1), "best_first": ["a", "b", "c"]}]) == [
        (post(1), "a", "b"), (post(1), "a", "c"), (post(1), "b", "c"),
    ]  # fmt: skip


@pytest.mark.parametrize("ties, expected", [("drop", ["ba", "bc"]), ("both_ways", ["ba", "ac", "ca", "bc"])])
def test_ratings_order_a_ranking_and_equal_ones_are_ties(config: FilesConfig, ties: str, expected: list[str]):
    # a 3, b 5, c 3: b beats a and c; a and c tie, and stand in the data both ways or not at all.
    held_out(config, texts=["x", "y"], scores=[2, 1])
    config = replace(config, ties=ties, columns=ColumnsConfig(ranking="texts", ratings="scores"))
    row = {"prompt": post(1), "texts": json.dumps(["a", "b", "c"]), "scores": json.dumps([3, 5, 3.0])}

    assert [chosen + rejected for _, chosen, rejected in pairs(config, [row])] == expected
    assert load_files(config).dropped == ({"ties": 1} if ties == "drop" else {})


def test_ties_are_left_out_of_held_out_pairs(config: FilesConfig, tmp_path: Path):
    held_out(config, same=False)
    rows = [{"prompt": post(100), "chosen": "a", "rejected": "b", "same": same} for same in (True, False)]
    write_jsonl(tmp_path / "validation.jsonl", rows)
    config = replace(config, ties="both_ways", columns=ColumnsConfig(tie="same"))

    trained = pairs(config, [{"prompt": post(1), "chosen": "a", "rejected": "b", "same": True}])
    assert trained == [(post(1), "a", "b"), (post(1), "b", "a")]
    assert len(load_files(config).preferences["validation"]) == 1


@pytest.mark.parametrize(
    "row, message",
    [
        ({"texts": ["a"], "scores": [1]}, "holds 1 summaries; a ranking has two"),
        ({"texts": ["a", "b"], "scores": [1]}, "2 summaries and 1 ratings; give one for each"),
        ({"texts": ["a", "b"], "scores": [1, "x"]}, "holds 'x', which is no number"),
        ({"texts": "a, b", "scores": [1, 2]}, "holds no list; write it as JSON"),
    ],
)
def test_a_broken_ranking(config: FilesConfig, row: dict, message: str):
    config = replace(config, columns=ColumnsConfig(ranking="texts", ratings="scores"))
    with pytest.raises(DataError, match=message):
        pairs(config, [{"prompt": post(1)} | row])


def test_all_missing_columns_are_named_at_once(config: FilesConfig):
    with pytest.raises(DataError) as refused:
        pairs(config, [{"article": post(1), "better": "a", "worse": "b"}])

    assert "no columns 'prompt', 'chosen', 'rejected' (columns: article, better, worse)" in str(refused.value)
    assert "data.columns.prompt=NAME data.columns.chosen=NAME data.columns.rejected=NAME" in str(refused.value)


def test_demonstrations_may_be_conversations_or_have_columns_of_their_own(config: FilesConfig, tmp_path: Path):
    write_jsonl(tmp_path / "d.jsonl", [{"text": post(2), "tldr": "two"}])
    write_jsonl(tmp_path / "m.jsonl", [{"messages": [said("user", post(3)), said("assistant", "three")]}])
    own = {"prompt": "text", "completion": "tldr"}
    files = DemonstrationFilesConfig(train="d.jsonl", validation=None, test=None, columns=own)
    config = replace(config, demonstrations_from_chosen=False, demonstrations=files)
    pairs(config, [{"prompt": post(1), "chosen": "a", "rejected": "b"}])

    assert [(d.prompt, d.completion) for d in load_files(config).demonstrations["train"]] == [(post(2), "two")]
    config = replace(config, demonstrations=replace(files, train="m.jsonl", columns=None))
    assert [(d.prompt, d.completion) for d in load_files(config).demonstrations["train"]] == [(post(3), "three")]
    with pytest.raises(ConfigError, match=r"data\.demonstrations\.columns must name some of id, prompt"):
        DemonstrationFilesConfig(columns={"promt": "text"})


def test_chosen_summaries_are_the_references_where_there_are_no_others(config: FilesConfig, tmp_path: Path):
    write_jsonl(tmp_path / "test.jsonl", [{"prompt": post(101), "chosen": "best", "rejected": "b"}])
    rows = [{"prompt": post(1), "chosen": "a", "rejected": "b"}]

    pairs(config, rows)
    assert [prompt.reference for prompt in load_files(config).eval_prompts] == [""]
    config = replace(config, reference_from_chosen=True)
    assert [prompt.reference for prompt in load_files(config).eval_prompts] == ["best"]


def test_a_post_without_a_title(config: FilesConfig, tmp_path: Path):
    for name in ("validation", "test"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": name, "chosen": "a", "rejected": "b", "reference": "r"}])
    config = replace(config, columns=ColumnsConfig(post="text"))

    assert pairs(config, [{"text": "number 1", "chosen": "good one", "rejected": "bad one"}]) == EXPECTED


def test_a_folder_of_save_to_disk_is_a_file_like_others(config: FilesConfig, tmp_path: Path):
    rows = [{"prompt": post(i), "chosen": "good one", "rejected": "bad one"} for i in range(3)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    config = replace(config, preferences=replace(config.preferences, train="saved"))

    found = load_files(config).preferences["train"]
    assert [(pair.prompt, pair.chosen) for pair in found] == [(post(i), "good one") for i in range(3)]


def test_a_pattern_without_a_file_names_those_there_are(config: FilesConfig):
    (Path(config.root) / ".venv").mkdir()
    (Path(config.root) / ".venv" / "a.csv").write_text("a package's")
    config = replace(config, preferences=replace(config.preferences, train="trian.*"))

    with pytest.raises(DataError, match=r"no file matches 'trian\.\*' \(there are test\.jsonl, validation\.jsonl\)"):
        load_files(config)


def test_a_data_set_of_the_hub_is_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, str | None]] = []

    def snapshot(repository: str, revision: str | None, *_: object) -> Path:
        asked.append((repository, revision))
        return tmp_path

    monkeypatch.setattr("bench.data.hub._snapshot", snapshot)

    assert hub_folder("hf://someone/pairs") == hub_folder("hf://someone/pairs@v1") == tmp_path
    assert asked == [("someone/pairs", None), ("someone/pairs", "v1")]
    with pytest.raises(ConfigError, match=r"^data\.root must be a folder, or hf://OWNER/NAME"):
        hub_folder("hf://pairs")
