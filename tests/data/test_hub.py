"""The Hub's own schemas, written small into a Hub cache and read back by the code that reads the real one."""

from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from bench.data.config import CnnDmConfig, TldrConfig
from bench.data.hub import (
    fetch,
    load_cnn_dm,
    load_tldr,
    parse_articles,
    parse_comparisons,
    parse_demonstrations,
)
from bench.data.prompts import tldr_prompt
from bench.data.splits import check_no_leak
from bench.errors import DataError, ResourceError

SUMMARY = pyarrow.struct([("text", pyarrow.string()), ("policy", pyarrow.string()), ("note", pyarrow.string())])
INFO = pyarrow.struct([(name, pyarrow.string()) for name in ("id", "post", "title", "subreddit", "site", "article")])
COMPARISONS_SCHEMA = pyarrow.schema(
    [
        ("info", INFO),
        ("summaries", pyarrow.list_(SUMMARY)),
        ("choice", pyarrow.int32()),
        ("worker", pyarrow.string()),
        ("batch", pyarrow.string()),
        ("split", pyarrow.string()),
        ("extra", pyarrow.struct([("confidence", pyarrow.int32())])),
    ]
)


def comparison(post: str, choice: int | None = 1, batch: str = "batch3", texts=(" first", " second")) -> dict:
    info = {
        "id": f"t3_{post}",
        "post": post,
        "title": "cat",
        "subreddit": "pets",
        "site": None,
        "article": None,
    }
    if "cnndm" in batch:
        info |= {"post": None, "title": None, "subreddit": None, "site": "cnn", "article": post}
    return {
        "info": info,
        "summaries": [{"text": texts[0], "policy": "sup1"}, {"text": texts[1], "policy": "ref"}],
        "choice": choice,
        "worker": "w",
        "batch": batch,
        "split": "train",
        "extra": {"confidence": None},
    }


def tldr_row(post: str) -> dict:
    return {"prompt": tldr_prompt("pets", "cat", post), "completion": f" human {post}"}


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An offline Hub cache; calling it puts a Parquet file of a repository at a commit there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")

    def put(repository: str, revision: str, file: str, rows: list[dict], schema=None) -> None:
        folder = tmp_path / "hub" / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision
        path = Path(folder / file)
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)

    return put


@pytest.fixture
def tldr(hub_cache) -> TldrConfig:
    config = TldrConfig()
    for split, posts in {"train": range(30), "validation": range(30, 33), "test": range(33, 36)}.items():
        rows = [tldr_row(f"post {i}") for i in posts]
        file = f"data/{split}-00000-of-00001.parquet"
        hub_cache(config.demonstrations_repository, config.demonstrations_revision, file, rows)
    train = [comparison(f"post {i}", choice=i % 2) for i in [*range(20, 30), *range(40, 70)]]
    train += [
        comparison("post 33"),
        comparison("post 70", choice=None),
        comparison("post 71", texts=("a", "a ")),
    ]
    validation = [comparison("post 31"), comparison("post 80")]
    validation += [comparison("news", batch=batch) for batch in ("batch0_cnndm", "cnndm0", "cnndm2")]
    for split, rows in {"train": train, "validation": validation}.items():
        file = f"comparisons/{split}/0000.parquet"
        hub_cache(config.comparisons_repository, config.comparisons_revision, file, rows, COMPARISONS_SCHEMA)
    return config


def test_tldr_from_the_hub(tldr):
    data = load_tldr(tldr)
    check_no_leak(data)
    assert [t.reference for t in data.eval_prompts] == ["human post 33", "human post 34", "human post 35"]
    assert data.eval_prompts[0].prompt == tldr_prompt("pets", "cat", "post 33")
    assert len(data.demonstrations["validation"]) == 3
    assert len(data.preferences["validation"]) == 2
    pairs = {p.id.split("-")[0]: p for split in ("train", "judge") for p in data.preferences[split]}
    assert set(pairs) == {f"t3_post {i}" for i in [*range(20, 30), *range(40, 70)]}
    assert data.preferences["train"] and data.preferences["judge"]
    even, odd = pairs["t3_post 20"], pairs["t3_post 21"]
    assert (even.chosen, even.rejected, even.reference) == ("first", "second", "second")
    assert (odd.chosen, odd.rejected) == ("second", "first")
    n_judge_demonstrations = 30 - len(data.demonstrations["train"])
    assert data.dropped == {
        "demonstrations of the judge's posts": n_judge_demonstrations,
        "identical pairs": 1,
        "news comparisons (CNN/DM)": 3,
        "ties": 1,
        "train rows whose post is in test": 1,
    }
    assert data.source["comparisons"] == f"openai/summarize_from_feedback@{tldr.comparisons_revision}"


def test_another_cached_commit_is_not_taken_for_the_pinned_one(tldr):
    moved = replace(tldr, comparisons_revision="0" * 40)
    with pytest.raises(
        ResourceError, match=r"openai/summarize_from_feedback at 0000000000.*HF_HOME.*data=files"
    ) as error:
        load_tldr(moved)
    assert "\n" not in str(error.value)


def test_a_snapshot_without_the_files_is_a_resource_error(tldr):
    with pytest.raises(ResourceError, match=r"trl-lib/tldr at .*no file matches elsewhere"):
        fetch(tldr.demonstrations_repository, tldr.demonstrations_revision, {"test": "elsewhere/*.parquet"})


def test_identical_pairs_can_be_refused(tldr):
    with pytest.raises(DataError, match=r"comparisons/train, row 43: chosen and rejected are equal"):
        load_tldr(replace(tldr, identical_pairs="error"))


def test_cnn_dm_is_for_scoring_only(hub_cache):
    config = CnnDmConfig()
    rows = [{"article": f"(CNN) Rain {i}.", "highlights": "Rain .\nSun .", "id": f"{i:040x}"} for i in range(3)]
    hub_cache(config.repository, config.revision, "3.0.0/test-00000-of-00001.parquet", rows)
    data = load_cnn_dm(config)
    assert [t.id for t in data.eval_prompts] == [row["id"] for row in rows]
    assert data.eval_prompts[1].prompt == "Article:\n(CNN) Rain 1.\n\nTL;DR:"
    assert data.eval_prompts[1].reference == "Rain .\nSun ."
    assert not any([*data.demonstrations.values(), *data.preferences.values()])


def test_the_filtered_tldr_schema_is_read_too():
    row = {"id": "t3_x", "subreddit": "pets", "title": "cat", "post": "It sings.", "summary": "Cat sings."}
    (demonstration,) = parse_demonstrations([row], "train")
    assert demonstration.id == "t3_x"
    assert demonstration.prompt == tldr_prompt("pets", "cat", "It sings.")
    assert demonstration.completion == "Cat sings."


@pytest.mark.parametrize(
    ("parse", "column"),
    [
        (lambda: parse_demonstrations([{"text": "x"}], "train"), "prompt"),
        (lambda: parse_demonstrations([{"post": "x"}], "train"), "id"),
        (lambda: parse_comparisons([{"prompt": "x", "chosen": "y"}], "train", "drop"), "info"),
        (lambda: parse_articles([{"article": "x", "id": "y"}]), "highlights"),
    ],
)
def test_another_schema_is_named(parse, column):
    with pytest.raises(DataError, match=rf"no column '{column}' \(columns: "):
        parse()
