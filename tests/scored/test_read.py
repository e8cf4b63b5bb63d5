"""Files in every layout give the same arms; what contradicts itself or is missing is named."""

import csv
from pathlib import Path

import pytest

from bench.errors import DataError
from bench.files import write_jsonl
from bench.records import Verdict
from bench.scored.config import ScoreColumns, ScoreConfig
from bench.scored.duels import judgements
from bench.scored.read import read_files

ROWS = [
    {"arm": arm, "prompt": f"post {i}\n\nTL;DR:", "reference": f"ref {i}", "completion": f"{arm} on {i}"}
    for arm in ("mine", "theirs")
    for i in range(3)
]


def write_csv(path: Path, rows: list[dict]) -> str:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def write(path: Path, rows: list[dict]) -> str:
    write_jsonl(path, rows)
    return str(path)


def texts(given) -> dict:
    return {arm: [row.completion for row in rows.values()] for arm, rows in given.arms.items()}


@pytest.fixture
def long_format(tmp_path: Path) -> str:
    return write(tmp_path / "all.jsonl", ROWS)


def without(row: dict, *names: str) -> dict:
    return {key: value for key, value in row.items() if key not in names}


def test_long_format_a_file_per_arm_and_prompts_apart_are_the_same(tmp_path: Path, long_format: str):
    expected = {"mine": [f"mine on {i}" for i in range(3)], "theirs": [f"theirs on {i}" for i in range(3)]}
    per_arm = [
        write(tmp_path / f"{arm}.jsonl", [without(row, "arm") for row in ROWS if row["arm"] == arm])
        for arm in ("mine", "theirs")
    ]
    prompts = [{"prompt_id": str(i), "prompt": f"post {i}\n\nTL;DR:", "reference": f"ref {i}"} for i in range(3)]
    by_id = [{"id": i % 3, "model": row["arm"], "output": row["completion"]} for i, row in enumerate(ROWS)]
    apart = [write(tmp_path / "prompts.jsonl", prompts), write_csv(tmp_path / "by_id.csv", by_id)]

    for given in (
        read_files([long_format], ScoreColumns()),
        read_files(per_arm, ScoreColumns()),
        read_files(apart, ScoreColumns(arm="model", completion="output")),
    ):
        assert texts(given) == expected
        assert [p.reference for p in given.prompts] == ["ref 0", "ref 1", "ref 2"]
        assert given.left_out == 0


def test_rows_of_an_arm_called_reference_are_the_reference_summaries(tmp_path: Path):
    rows = [without(row, "reference") for row in ROWS] + [
        {"arm": "reference", "prompt": f"post {i}\n\nTL;DR:", "completion": f"human {i}"} for i in range(2)
    ]
    given = read_files([write(tmp_path / "all.jsonl", rows)], ScoreColumns())

    assert list(given.arms) == ["mine", "theirs"]
    assert [p.reference for p in given.prompts] == ["human 0", "human 1", ""]


def test_a_prompt_that_one_arm_lacks_is_named_or_left_out_for_all(tmp_path: Path):
    file = write(tmp_path / "all.jsonl", ROWS[:-1])

    with pytest.raises(DataError, match=r"arm 'theirs' has no completion for 1 of 3 prompts \(p-[0-9a-f]{12}\)"):
        read_files([file], ScoreColumns())
    given = read_files([file], ScoreColumns(), drop_incomplete=True)
    assert texts(given)["mine"] == ["mine on 0", "mine on 1"]
    assert given.left_out == 1


@pytest.mark.parametrize(
    "change, said",
    [
        ({"completion": 3}, "row|line 6: column 'completion' holds int instead of text"),
        ({"arm": "mine"}, "line 6: a second completion of arm 'mine'"),
        ({"arm": "a_vs_b"}, "line 6: an arm may not have '_vs_'"),
        ({"prompt": " "}, "line 6: column 'prompt' is empty"),
        ({"finished": "perhaps"}, "line 6: column 'finished' holds 'perhaps'"),
        ({"n_tokens": "many"}, "line 6: column 'n_tokens' holds 'many', which is no finite number"),
        (
            {"prompt": "post 0\n\nTL;DR:", "arm": "new", "reference": "other"},
            "another reference summary than in .*line 1",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict, said: str):
    with pytest.raises(DataError, match=said):
        read_files([write(tmp_path / "all.jsonl", [*ROWS[:-1], ROWS[-1] | change])], ScoreColumns())


def test_missing_columns_are_asked_for_at_once_with_those_there_are(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", [{"model_type": "x", "context": "p", "sample": "s"}])

    with pytest.raises(DataError, match=r"which column is the completion\? There are context, model_type, sample; set"):
        read_files([file], ScoreColumns())
    with pytest.raises(DataError, match=r"neither a prompt .* nor its id .* among the columns"):
        read_files([file], ScoreColumns(completion="sample"))
    with pytest.raises(DataError, match=r"columns\.arm=kind: no file has such a column"):
        read_files([file], ScoreColumns(completion="sample", prompt="context", arm="kind"))


def test_verdicts_of_a_file_are_turned_one_way_and_named_after_it(tmp_path: Path, long_format: str):
    verdicts = [
        {"prompt": "post 0\n\nTL;DR:", "arm_a": "theirs", "arm_b": "mine", "verdict": "theirs", "order": "ab"},
        {"prompt": "post 0\n\nTL;DR:", "arm_a": "mine", "arm_b": "theirs", "verdict": "B", "order": "ab"},
        {"prompt": "post 1\n\nTL;DR:", "arm_a": "reference", "arm_b": "mine", "verdict": "tie", "order": "ba"},
    ]
    files = [long_format, write(tmp_path / "gpt-4.csv.jsonl", verdicts)]
    given = read_files(files, ScoreColumns())
    found = judgements(ScoreConfig(files=tuple(files)), given, tmp_path)

    first, second = (prompt.id for prompt in given.prompts[:2])
    assert dict(found["gpt-4.csv"].duels) == {
        ("mine", "reference"): [Verdict(second, "mine", "reference", "ab", "tie", "gpt-4.csv", "")],
        ("mine", "theirs"): [
            Verdict(first, "mine", "theirs", "ba", "b", "gpt-4.csv", ""),
            Verdict(first, "mine", "theirs", "ab", "b", "gpt-4.csv", ""),
        ],
    }


def test_a_second_verdict_on_a_pair_is_refused_whichever_way_it_is_written(tmp_path: Path, long_format: str):
    rows = [
        {"prompt": "post 0\n\nTL;DR:", "arm_a": "theirs", "arm_b": "mine", "verdict": "a"},
        {"prompt": "post 0\n\nTL;DR:", "arm_a": "mine", "arm_b": "theirs", "verdict": "a", "order": "ba"},
    ]
    with pytest.raises(DataError, match="has a verdict on this pair in this order already"):
        read_files([long_format, write(tmp_path / "v.jsonl", rows)], ScoreColumns())


def test_a_verdict_on_an_unknown_arm_is_refused(tmp_path: Path, long_format: str):
    rows = [{"prompt": "post 0\n\nTL;DR:", "arm_a": "mine", "arm_b": "gpt", "verdict": "a"}]

    with pytest.raises(DataError, match="speaks of arm 'gpt', which has no completions here"):
        read_files([long_format, write(tmp_path / "v.jsonl", rows)], ScoreColumns())
