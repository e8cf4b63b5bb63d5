import csv
import json

import pyarrow
import pyarrow.parquet
import pytest

from bench.audit.config import AuditColumns
from bench.audit.pairs import read_pairs
from bench.errors import DataError
from bench.evaluate.agreement import Shown

NAMES = AuditColumns()


@pytest.fixture
def file(tmp_path):
    """file(rows, suffix): a file with these rows."""

    def write(rows, suffix=".jsonl", name="labels"):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        elif suffix == ".csv":
            with path.open("w", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path

    return write


def judged(verdict, a: str | None = "one", b="two", **cells):
    return {"summary_a": a, "summary_b": b, "verdict": verdict, **cells}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_rows_of_verdicts(file, suffix):
    rows = [
        judged("A", id=7, post="a post", annotator="ann", confidence=3),
        judged("tie", "three", "four", id=8, post="a post", annotator="ann", confidence=1.5),
    ]
    pairs, hashes = read_pairs(file(rows, suffix), NAMES)

    assert [(p.id, p.prompt, p.a, p.b, p.labels) for p in pairs] == [
        ("7", "a post", "one", "two", ["a"]),
        ("8", "a post", "three", "four", ["tie"]),
    ]
    assert [(x.annotator, x.confidence) for p in pairs for x in p.annotations] == [("ann", 3.0), ("ann", 1.5)]
    assert list(hashes) == [f"labels{suffix}"] and hashes[f"labels{suffix}"].startswith("sha256:")


@pytest.mark.parametrize(
    ("written", "label"),
    [("a", "a"), (" A ", "a"), ("1", "a"), (1, "a"), (1.0, "a"), ("summary_b", "b"), (2, "b"), ("Tie", "tie")],
)
def test_ways_to_write_a_verdict(file, written, label):
    pairs, _ = read_pairs(file([judged(written)]), NAMES)

    assert pairs[0].labels == [label]


def test_annotators_of_one_pair_come_together_whatever_order_they_saw(file):
    rows = [
        judged("a", "one", "two", post="p"),
        judged("b", "other", "two", post="p"),
        judged("a", "two", "one", post="p"),
        judged("tie", "two", "one", post="p"),
        judged("a", "one", "two", post="q"),
    ]
    pairs, _ = read_pairs(file(rows), NAMES)

    assert [(p.a, p.b, p.prompt) for p in pairs] == [("one", "two", "p"), ("other", "two", "p"), ("one", "two", "q")]
    assert [x.shown for x in pairs[0].annotations] == [Shown("a", "ab"), Shown("b", "ba"), Shown("tie", "ba")]
    assert len({p.id for p in pairs}) == 3


def test_a_posts_id_may_stand_at_several_pairs(file):
    pairs, _ = read_pairs(file([judged("a", id="post"), judged("a", "other", id="post")]), NAMES)

    assert pairs[0].id == "post" and pairs[1].id.startswith("post-")


def test_pair_ids_hold_rows_together(file):
    pairs, _ = read_pairs(file([judged("a", pair_id=1, id="x"), judged("b", pair_id=1, id="y")]), NAMES)

    assert [(p.id, p.labels) for p in pairs] == [("1", ["a", "b"])]


@pytest.mark.parametrize(("shown_as", "a", "label"), [("A", "good", "a"), ("B", "bad", "b")])
def test_preference_pairs_know_what_was_shown_as_a(file, shown_as, a, label):
    rows = [{"prompt": "p", "chosen": " good ", "rejected": "bad", "chosen_shown_as": shown_as}]
    (pair,), _ = read_pairs(file(rows), NAMES)

    assert (pair.a, pair.annotations[0].shown) == (a, Shown(label, "ab"))


def test_where_the_order_is_not_known_a_coin_says_which_summary_is_a(file):
    rows = [{"chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(200)]
    pairs, _ = read_pairs(file(rows), NAMES)

    for pair in pairs:
        assert pair.annotations[0].shown == Shown("a" if pair.a.startswith("good") else "b", None)
    assert 70 < sum(pair.a.startswith("good") for pair in pairs) < 130
    assert pairs == read_pairs(file(rows), NAMES)[0]


def test_a_folders_files_are_read_together(file, tmp_path):
    (tmp_path / "preferences").mkdir()
    file([{"prompt": "p", "completion": "no label"}])
    for split in ("train", "test"):
        file([judged("a", post=split)], name=f"preferences/{split}")
    (tmp_path / "preferences" / "README.md").write_text("not data")
    pairs, hashes = read_pairs(tmp_path, NAMES)

    assert [pair.prompt for pair in pairs] == ["test", "train"]
    assert set(hashes) == {"test.jsonl", "train.jsonl"}


def test_columns_of_other_names(file):
    columns = AuditColumns(summary_a="left", summary_b="right", verdict="winner", prompt="text", judge="gpt")
    rows = [
        {"left": "one", "right": "two", "winner": 2, "text": "p", "gpt": "A"},
        {"left": "two", "right": "one", "winner": 1, "text": "p", "gpt": "tie"},
        {"left": "three", "right": "four", "winner": 1, "text": "p", "gpt": ""},
    ]
    pairs, _ = read_pairs(file(rows), columns)

    assert [(p.labels, p.judged) for p in pairs] == [
        (["b", "b"], (("a", "ab"), ("tie", "ba"))),
        (["a"], (("unparsed", "ab"),)),
    ]


def test_summaries_may_be_empty_and_confidence_may_be_missing(file):
    rows = [judged("b", "", "two", confidence="high"), judged("b", "", "three", confidence="")]
    pairs, _ = read_pairs(file(rows), NAMES)

    assert [(p.a, p.annotations[0].confidence) for p in pairs] == [("", "high"), ("", None)]


GOOD = judged("a", post="p", annotator="ann", pair_id="1")


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"summary_a": "x", "verdict": "a"}, {}, "no column 'summary_b' (columns: summary_a, verdict); set columns."),
        ({"summary_a": "x", "summary_b": "y"}, {}, "no column 'verdict' (columns: summary_a, summary_b)"),
        ({"text": "x"}, {}, "neither 'summary_a' nor 'chosen' is among the columns (text)"),
        (judged("a"), {"confidence": "sure"}, "no column 'sure'"),
        (judged("better"), {}, "column 'verdict' holds 'better'; a verdict is a or b (or 1 or 2), or tie"),
        (judged(0), {}, "holds 0; a verdict is a or b (or 1 or 2), or tie; with 0 for the first, write 1 and 2"),
        (judged(None), {}, "column 'verdict' holds None"),
        (judged("a", a=None), {}, "column 'summary_a' holds NoneType instead of text"),
        (judged("a", post="\ud800"), {}, "half a surrogate pair"),
        (GOOD | {"summary_b": "three", "annotator": "bob"}, {}, "pair '1' has other texts than in"),
        (GOOD | {"verdict": "b"}, {}, "annotator 'ann' has judged the pair of"),
        ({"chosen": "x", "rejected": "y", "chosen_shown_as": "tie"}, {}, "was shown as A or as B"),
        ({"chosen": "x", "rejected": "y", "gpt": "a"}, {"judge": "gpt"}, "does not say which that is"),
        (GOOD | {"annotator": "bob", "gpt": "b"}, {"judge": "gpt"}, "not that of an earlier row"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_row(file, row, columns, message):
    path = file([GOOD | {"gpt": "a"} if "confidence" not in columns else GOOD | {"sure": 1}, row])
    with pytest.raises(DataError) as found:
        read_pairs(path, AuditColumns(**columns))

    assert str(found.value).startswith(f"{path}, line 2: ") and message in str(found.value)
    assert "\n" not in str(found.value)


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="no such file or folder; set data to"):
        read_pairs(tmp_path / "absent.csv", NAMES)
    with pytest.raises(DataError, match=r"no \.jsonl, \.csv, \.parquet file in it"):
        read_pairs(tmp_path, NAMES)
