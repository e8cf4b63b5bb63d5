import csv
import json
import os
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest

from bench.data.config import ColumnsConfig, DemonstrationFilesConfig, FilesConfig, PreferenceFilesConfig
from bench.data.local import load_files
from bench.data.prompts import tldr_prompt
from bench.data.splits import post_key
from bench.errors import DataError


def prompt(post: str) -> str:
    return tldr_prompt("pets", "cat", post)


def demonstration(name: str) -> dict:
    return {"id": f"d-{name}", "prompt": prompt(name), "completion": f" summary of {name}"}


def pair(name: str) -> dict:
    return {
        "id": f"p-{name}",
        "prompt": prompt(name),
        "chosen": f"good {name}",
        "rejected": f"bad {name}",
        "reference": f"human {name}",
    }


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_layout(root, suffix=".jsonl"):
    """The default layout: 4 training posts with demonstrations, 40 with pairs, and held-out posts."""
    write(root / f"demonstrations/train{suffix}", [demonstration(f"a{i}") for i in range(4)])
    write(root / f"demonstrations/validation{suffix}", [demonstration("b0")])
    write(root / f"demonstrations/test{suffix}", [demonstration("c0"), demonstration("c1")])
    write(root / f"preferences/train{suffix}", [pair(f"e{i}") for i in range(40)])
    write(root / f"preferences/validation{suffix}", [pair("f0"), pair("f1")])
    write(root / f"preferences/test{suffix}", [pair("c1"), pair("g0")])


@pytest.fixture
def config(tmp_path) -> FilesConfig:
    write_layout(tmp_path)
    return FilesConfig(root=str(tmp_path))


def change_row(path, index, **changes):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[index] |= changes
    write(path, [{key: value for key, value in row.items() if value is not ...} for row in rows])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_default_layout_loads_from_every_format(tmp_path, suffix):
    write_layout(tmp_path, suffix)
    data = load_files(FilesConfig(root=str(tmp_path)))
    assert [d.id for d in data.demonstrations["train"]] == ["d-a0", "d-a1", "d-a2", "d-a3"]
    assert data.demonstrations["train"][0].completion == "summary of a0"
    assert [p.id for p in data.preferences["validation"]] == ["p-f0", "p-f1"]
    train, judge = data.preferences["train"], data.preferences["judge"]
    assert train and judge and {p.id for p in [*train, *judge]} == {f"p-e{i}" for i in range(40)}
    assert (train[0].chosen, train[0].rejected, train[0].reference) == tuple(
        f"{kind} {train[0].id[2:]}" for kind in ("good", "bad", "human")
    )
    # c1 is in both test files and counts once, with the demonstration's summary
    assert [(t.id, t.reference) for t in data.eval_prompts] == [
        ("d-c0", "summary of c0"),
        ("d-c1", "summary of c1"),
        ("p-g0", "human g0"),
    ]
    assert data.source["name"] == "files"
    assert len(data.source) == 1 + 6 and data.source[f"preferences/train{suffix}"].startswith("sha256:")


def test_other_column_names_and_a_post_without_a_prompt(config, tmp_path):
    rows = [
        {
            "n": i,
            "sub": "pets",
            "headline": "cat",
            "body": f"post {i}\n\nend",
            "better": "x",
            "worse": "y",
            "same": tie,
        }
        for i, tie in enumerate(["", "0", "True", "false", "1"] * 8)
    ]
    write(tmp_path / "pairs.csv", rows)
    config = replace(
        config,
        demonstrations_from_chosen=True,
        preferences=replace(config.preferences, train="pairs.csv"),
        columns=ColumnsConfig(
            id="n",
            post="body",
            title="headline",
            subreddit="sub",
            chosen="better",
            rejected="worse",
            tie="same",
        ),
        judge_fraction=0,
    )
    held_out = [row | {"body": f"held out {row['n']}", "reference": "human"} for row in rows[:2]]
    write(tmp_path / "preferences/validation.jsonl", held_out[:1])
    write(tmp_path / "preferences/test.jsonl", held_out[1:])
    data = load_files(config)
    assert data.dropped == {"ties": 16}
    first = data.preferences["train"][0]
    assert (first.id, first.chosen, first.rejected, first.reference) == ("0", "x", "y", None)
    assert first.prompt == tldr_prompt("pets", "cat", "post 0\n\nend")
    assert [d.completion for d in data.demonstrations["train"]] == ["x"] * 24
    assert [(t.id, t.reference) for t in data.eval_prompts] == [("1", "human")]


def test_human_summaries_of_pairs_are_demonstrations_too_but_the_judges(config: FilesConfig):
    plain = load_files(config)
    more = load_files(replace(config, demonstrations_from_references=True))

    assert plain.preferences == more.preferences and plain.preferences["judge"]
    for split in ("train", "validation"):
        before, after = plain.demonstrations[split], more.demonstrations[split]
        assert after[: len(before)] == before
        expected = {(p.prompt, p.reference) for p in plain.preferences[split] if p.reference}
        added = [(d.prompt, d.completion) for d in after[len(before) :]]
        assert set(added) == expected - {(d.prompt, d.completion) for d in before} and len(set(added)) == len(added)
    assert len(more.demonstrations["train"]) > len(plain.demonstrations["train"])


def test_unsplit_files_are_split_by_post(tmp_path):
    posts = [f"post {i}" for i in range(80)]
    write(tmp_path / "demos.jsonl", [demonstration(post) for post in posts])
    write(tmp_path / "pairs.parquet", [pair(post) | {"id": f"{post}/{k}"} for post in posts for k in range(2)])
    config = FilesConfig(
        root=str(tmp_path),
        demonstrations=DemonstrationFilesConfig(unsplit="demos.jsonl"),
        preferences=PreferenceFilesConfig(unsplit="pairs.*"),
        validation_fraction=0.2,
        test_fraction=0.25,
    )
    data = load_files(config)
    splits = {
        **{split: {post_key(p.prompt) for p in rows} for split, rows in data.preferences.items()},
        "test": {post_key(t.prompt) for t in data.eval_prompts},
    }
    assert sorted(key for keys in splits.values() for key in keys) == sorted(post_key(prompt(post)) for post in posts)
    assert all(len(rows) == 2 * len(splits[split]) for split, rows in data.preferences.items())
    assert {post_key(d.prompt) for d in data.demonstrations["train"]} == splits["train"]
    assert {post_key(d.prompt) for d in data.demonstrations["validation"]} == splits["validation"]
    other = load_files(replace(config, split_seed=1))
    assert {t.id for t in other.eval_prompts} != {t.id for t in data.eval_prompts}


def test_rows_without_ids_are_numbered_over_all_files(config, tmp_path):
    os.remove(tmp_path / "preferences/train.jsonl")
    for name, posts in {"train.a.csv": range(0, 20), "train.b.jsonl": range(20, 40)}.items():
        rows = [pair(f"e{i}") for i in posts]
        write(tmp_path / "preferences" / name, [{k: v for k, v in row.items() if k != "id"} for row in rows])
    data = load_files(config)
    ids = sorted(p.id for split in ("train", "judge") for p in data.preferences[split])
    assert ids == [f"preferences-train-{i:06d}" for i in range(1, 41)]


def test_a_judge_file_takes_the_place_of_carving(config, tmp_path):
    write(tmp_path / "preferences/judge.jsonl", [pair("j0")])
    data = load_files(replace(config, preferences=replace(config.preferences, judge="preferences/judge.jsonl")))
    assert [p.id for p in data.preferences["judge"]] == ["p-j0"]
    assert len(data.preferences["train"]) == 40


def test_identical_pairs_are_refused_or_dropped(config, tmp_path):
    change_row(tmp_path / "preferences/train.jsonl", 2, rejected=" good e2\n")
    with pytest.raises(DataError, match=r"preferences/train\.jsonl, line 3: chosen and rejected are equal"):
        load_files(config)
    data = load_files(replace(config, identical_pairs="drop"))
    assert data.dropped == {"identical pairs": 1}
    assert sum(len(data.preferences[split]) for split in ("train", "judge")) == 39


def test_very_long_cells_and_exotic_line_separators_are_read(config, tmp_path):
    long = "word\u2028 " * 50_000  # 350 kB: beyond csv's default limit; U+2028 is no end of line in JSONL or CSV
    for suffix in (".jsonl", ".csv"):
        os.remove(next((tmp_path / "preferences").glob("validation.*")))
        write(tmp_path / f"preferences/validation{suffix}", [pair(long)])
        assert load_files(config).preferences["validation"][0].rejected == f"bad {long}".strip()


@pytest.mark.parametrize(
    ("path", "changes", "message"),
    [
        (
            "preferences/train",
            {"chosen": ...},
            r"line 2: no column 'chosen' \(columns: id, .*data\.columns\.chosen",
        ),
        ("preferences/train", {"chosen": 7}, r"line 2: column 'chosen' holds int instead of text"),
        ("preferences/train", {"reference": ["x"]}, r"line 2: column 'reference' holds list instead of text"),
        ("preferences/train", {"prompt": " \n"}, r"line 2: column 'prompt' is empty"),
        ("preferences/train", {"id": None}, None),
        (
            "preferences/train",
            {"chosen": "half \ud83d"},
            r"line 2: column 'chosen' holds half a surrogate pair",
        ),
        ("demonstrations/test", {"completion": None}, r"line 2: column 'completion' holds NoneType"),
        ("demonstrations/test", {"completion": ""}, r"line 2: column 'completion' is empty"),
        ("demonstrations/test", {"id": "d-c0"}, r"two test posts have the id 'd-c0'"),
        (
            "demonstrations/test",
            {"prompt": prompt("A1")},
            r"train \(demonstration 'd-a1'\) and test \(prompt 'd-c1'\)",
        ),
        (
            "preferences/validation",
            {"prompt": prompt("e9")},
            r"train \(pair 'p-e9'\) and validation \(pair 'p-f1'\)",
        ),
    ],
)
def test_a_bad_row_gives_one_clear_line(config, tmp_path, path, changes, message):
    file = tmp_path / f"{path}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1] = {key: value for key, value in (rows[1] | changes).items() if value is not ...}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if message is None:
        load_files(config)
        return
    with pytest.raises(DataError, match=message) as error:
        load_files(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", b'{"id": "x"\n', r"train\.jsonl, line 1: broken JSON \(.*at column 11\)"),
        ("train.jsonl", b'\n\n["x"]\n', r"train\.jsonl, line 3: list instead of a JSON object"),
        ("train.jsonl", b"\n \n", r"train\.jsonl: is empty"),
        ("train.jsonl", b'{"id": "x"}\n{"id": "\xff"}\n', r"train\.jsonl, line 2: not UTF-8 \(byte 0xff\)"),
        ("train.csv", b"", r"train\.csv: is empty"),
        ("train.csv", b"prompt,chosen,rejected\n", r"train\.csv: is empty"),
        ("train.csv", b"prompt,chosen,rejected\na,b\n", r"train\.csv, row 1: not 3 cells"),
        ("train.csv", b"prompt,chosen,rejected\na,b,c\na,b,c,d\n", r"train\.csv, row 2: not 3 cells"),
        ("train.csv", b'prompt,chosen,rejected\na,b,c\na,b,"c\n', r"after row 1: broken CSV"),
        (
            "train.csv",
            b"prompt,better,rejected\na,b,c\n",
            r"row 1: no column 'chosen' \(columns: prompt, better, rejected\)",
        ),
        ("train.parquet", b"PAR1 not really", r"train\.parquet: cannot be read as Parquet"),
        ("train.txt", b"x", r"train\.txt: unknown extension '\.txt'; call it \.csv"),
    ],
)
def test_a_broken_file_gives_one_clear_line(config, tmp_path, name, content, message):
    os.remove(tmp_path / "preferences/train.jsonl")
    (tmp_path / "preferences" / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_files(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "demonstrations/train",
            r"no file matches 'demonstrations/train\.\*'.*demonstrations_from_chosen=true",
        ),
        ("demonstrations/test", r"set data\.demonstrations\.test to the file's name, or to null"),
        ("preferences/train", r"set data\.preferences\.train to the file's name$"),
    ],
)
def test_a_missing_file_is_named_with_its_key(config, tmp_path, missing, message):
    os.remove(tmp_path / f"{missing}.jsonl")
    with pytest.raises(DataError, match=message):
        load_files(config)


def test_a_missing_folder_and_an_unreadable_file(config, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder; set data\.root"):
        load_files(replace(config, root=str(tmp_path / "nowhere")))
    os.remove(tmp_path / "preferences/train.jsonl")
    (tmp_path / "preferences/train.jsonl").mkdir()
    with pytest.raises(DataError, match=r"train\.jsonl: is a folder that no Dataset\.save_to_disk has written"):
        load_files(config)


def test_an_optional_column_under_another_name_has_to_exist(config):
    with pytest.raises(DataError, match=r"line 1: no column 'human'.*data\.columns\.reference"):
        load_files(replace(config, columns=ColumnsConfig(reference="human")))


def test_a_tie_column_that_is_no_truth_value(config, tmp_path):
    change_row(tmp_path / "preferences/train.jsonl", 0, tie="perhaps")
    with pytest.raises(DataError, match=r"line 1: column 'tie' holds 'perhaps'; a tie is true or false"):
        load_files(replace(config, columns=ColumnsConfig(tie="tie")))


def test_splits_left_without_rows_are_named(config, tmp_path):
    write(tmp_path / "preferences/train.jsonl", [pair("e0")])
    with pytest.raises(DataError, match=r"no (training pairs|pairs for the judge) left after splitting"):
        load_files(config)
    load_files(replace(config, judge_fraction=0))
    without = replace(
        config,
        judge_fraction=0,
        demonstrations=replace(config.demonstrations, test=None),
        columns=ColumnsConfig(reference=None),
    )
    data = load_files(without)
    assert data.eval_prompts and not data.has_references
    assert {prompt.reference for prompt in data.eval_prompts} == {""}
    nothing = replace(without, preferences=replace(config.preferences, test=None))
    with pytest.raises(DataError, match=r"no test posts left after splitting by post"):
        load_files(nothing)


def test_the_same_rows_in_two_forms_are_refused(config, tmp_path):
    write(tmp_path / "preferences/train.parquet", [pair("e0")])

    with pytest.raises(DataError, match=r"train\.jsonl and train\.parquet both match data\.preferences\.train"):
        load_files(config)
