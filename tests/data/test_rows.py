"""Every form in which rows come, and every way in which a file is not one of them."""

import csv
import gzip
import io
import json
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from bench.data.rows import files_of, read_rows
from bench.errors import DataError

ROWS = [{"prompt": "naïve, post; one\tend", "chosen": 'say "a"\nb'}, {"prompt": "p2", "chosen": "c2"}]


def separated(delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def lines() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def cells(name: str, content: bytes) -> list[dict]:
    return [dict(row.cells) for row in read_rows(Path(name), content)]


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.jsonl", lines()),
        ("a.ndjson", lines()),
        ("a.json", json.dumps(ROWS, indent=2).encode()),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        ("a.json", json.dumps({"version": 1, "data": ROWS}, indent=2).encode()),
        ("a.json", lines()),
        ("a.csv", separated(",")),
        ("a.csv", separated(";")),
        ("a.csv", separated("\t")),
        ("a.tsv", separated("\t")),
        ("a.CSV", b"\xef\xbb\xbf" + separated(";")),
        ("a.parquet", parquet()),
        ("a.jsonl.gz", gzip.compress(lines(), mtime=0)),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("a.csv.gz", gzip.compress(separated(","), mtime=0)),
    ],
)
def test_every_form_gives_the_same_rows(name: str, content: bytes):
    assert cells(name, content) == ROWS


def test_a_folder_of_save_to_disk_is_its_shards_in_order(tmp_path: Path):
    many = datasets.Dataset.from_list([{"n": i} for i in range(20)]).filter(lambda row: row["n"] % 2 == 0)
    many.save_to_disk(tmp_path / "set", num_shards=3)

    files = files_of(tmp_path / "set")

    assert len(files) == 3
    assert [row["n"] for file in files for row in cells(str(file), file.read_bytes())] == list(range(0, 20, 2))


def test_of_several_splits_one_is_to_be_named(tmp_path: Path):
    split = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "set")

    with pytest.raises(DataError, match=r"a split per folder \(test, train\); name one: .*set/test"):
        files_of(tmp_path / "set")


@pytest.mark.parametrize(
    "name, content, said",
    [
        (
            "a.csv",
            b"id,chosen,rejected,chosen\n1,a,b,c\n",
            "the column 'chosen' is there 2 times; rename",
        ),
        ("a.jsonl", b'{"id": 1, "id": 2}\n', "line 1: the key 'id' is there twice; keep one"),
        ("a.json", b'[{"id": 1, "id": 2}]', "the key 'id' is there twice"),
        ("a.json", b'[{"id": 1},', "broken JSON"),
        ("a.json", b'[{"id": 1}, 3]', "row 2: int instead of a JSON object"),
        ("a.json", b'{"a": [{"b": 1}], "c": [{"b": 1}]}', "2 arrays of objects"),
        ("a.csv", b"a;b\n1;2;3\n", "row 1: not 2 cells as in the header; quote cells that hold semicolons"),
        ("a.xlsx", b"PK", "save the sheet as CSV in UTF-8"),
        ("a.pkl", b"x", "write it as JSONL, in pandas"),
        ("a.zip", b"x", "unpack it"),
        ("a.csv.gz", b"plain", "cannot be unpacked"),
        ("a.csv", b"a,b\n", "is empty"),
    ],
)
def test_what_cannot_be_read_says_how_to_mend_it(name: str, content: bytes, said: str):
    with pytest.raises(DataError) as refused:
        cells(name, content)

    assert said in str(refused.value)
