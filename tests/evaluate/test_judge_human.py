import csv
import json
from pathlib import Path

import pytest

from bench.errors import DataError, ResourceError
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.human import HumanJudge, pair_id, read_verdicts
from bench.evaluate.win_rate import compare
from bench.files import read_jsonl
from bench.records import EvalPrompt

PROMPTS = [EvalPrompt(f"p{i}", f'post {i}, with "quotes";\nand lines', f"reference {i}") for i in range(12)]
DPO = {p.id: f"=dpo {p.id}" for p in PROMPTS} | {"p3": "reference 3"}
PPO = {p.id: f"ppo {p.id}" for p in PROMPTS}
REFERENCE = {p.id: p.reference for p in PROMPTS}


def items_of(a: dict[str, str], b: dict[str, str]) -> list[JudgeItem]:
    return [JudgeItem(p.id, p.prompt, a[p.id], b[p.id]) for p in PROMPTS]


def write_csv(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> None:
    with open(path, "w", encoding="utf-8-sig", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def exported(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.glob("pairs-*.jsonl")
    return [dict(row) for row in read_jsonl(path)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "human" / "verdicts.csv"


def test_without_verdicts_the_pairs_go_out_and_the_message_says_how_to_go_on(file: Path):
    items = items_of(DPO, REFERENCE)

    with pytest.raises(ResourceError) as stopped:
        HumanJudge(file, seed=0).judge(items)

    message = str(stopped.value)
    (table,) = file.parent.glob("pairs-*.csv")
    assert f"{file} has no verdict on 11 of 11 pairs; they are in {table} (and .jsonl)" in message
    assert "write A, B or tie into the column verdict" in message and "run the same command again" in message
    rows = exported(file.parent)
    assert [list(row) for row in rows] == [sorted(("pair_id", "post", "summary_a", "summary_b", "verdict"))] * 11
    by_id = {row["pair_id"]: (row["post"], row["summary_a"], row["summary_b"]) for row in rows}
    assert by_id == {pair_id(i): (i.prompt, i.first, i.second) for i in items if i.prompt_id != "p3"}  # equal: a tie
    assert {row["verdict"] for row in rows} == {""}


def test_a_table_opens_in_a_spreadsheet_and_runs_nothing_there(file: Path):
    with pytest.raises(ResourceError):
        HumanJudge(file, seed=0).judge(items_of(DPO, REFERENCE))

    (path,) = file.parent.glob("pairs-*.csv")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with open(path, encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["summary_a"] for row in rows} == {f"'{DPO[p.id]}" for p in PROMPTS if p.id != "p3"}
    assert {row["post"] for row in rows} == {p.prompt for p in PROMPTS if p.id != "p3"}


def test_nothing_that_goes_out_names_an_arm_or_a_prompt(file: Path):
    plain = {p.id: f"summary {i}" for i, p in enumerate(PROMPTS)}
    with pytest.raises(ResourceError):
        compare("arm_dpo", "arm_ref", plain, REFERENCE, PROMPTS, HumanJudge(file, seed=0), seed=0, orders="one")

    for path in file.parent.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "arm_" not in text and not any(p.id in text for p in PROMPTS)


def test_a_pair_is_named_for_all_that_is_shown():
    shown = [("post", "x", "y"), ("post", "y", "x"), ("post", "x", "z"), ("post", "z", "y"), ("other", "x", "y")]

    assert len({pair_id(JudgeItem("p", *texts)) for texts in shown}) == 5
    assert pair_id(JudgeItem("p", *shown[0])) == pair_id(JudgeItem("q", *shown[0]))


def test_rows_are_in_an_order_drawn_by_the_seed(tmp_path: Path):
    orders = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        with pytest.raises(ResourceError):
            HumanJudge(tmp_path / folder / "v.csv", seed).judge(items_of(DPO, REFERENCE))
        orders.append([row["pair_id"] for row in exported(tmp_path / folder)])

    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) != orders[0]


@pytest.mark.parametrize("kind", ["csv", "semicolons", "tabs", "jsonl"])
def test_verdicts_come_back_to_the_right_arm(tmp_path: Path, kind: str):
    """People prefer dpo's summary on even prompts, and see it first or second as the seed has drawn."""
    file = tmp_path / ("verdicts.jsonl" if kind == "jsonl" else "verdicts.csv")
    with pytest.raises(ResourceError):
        compare("dpo", "ppo", DPO, PPO, PROMPTS, HumanJudge(file, seed=0), seed=0, orders="one")
    rows = exported(tmp_path)
    assert len({row["summary_a"].startswith("=dpo") for row in rows}) == 2

    def better(row: dict[str, str]) -> str:
        number = int(row["post"].split()[1].rstrip(","))
        wanted = DPO[f"p{number}"] if number % 2 == 0 else PPO[f"p{number}"]
        return "tie" if number == 1 else ("A" if row["summary_a"] == wanted else " b ")

    filled = [{**row, "verdict": better(row)} for row in rows]
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in filled) + "\n\n", encoding="utf-8")
    else:
        write_csv(file, filled, {"csv": ",", "semicolons": ";", "tabs": "\t"}[kind])
    verdicts = compare("dpo", "ppo", DPO, PPO, PROMPTS, HumanJudge(file, seed=0), seed=0, orders="one")

    assert {v.prompt_id: v.verdict for v in verdicts} == {
        p.id: "tie" if p.id == "p1" else ("a" if int(p.id[1:]) % 2 == 0 else "b") for p in PROMPTS
    }
    assert {v.judge for v in verdicts} == {"human"}


def test_what_is_missing_goes_out_by_itself_and_no_export_is_overwritten(file: Path):
    items = items_of(DPO, REFERENCE)
    with pytest.raises(ResourceError):
        HumanJudge(file, seed=0).judge(items)
    (everything,) = file.parent.glob("pairs-*.csv")
    rows = exported(file.parent)
    everything.write_text("filled in by hand", encoding="utf-8")
    with pytest.raises(ResourceError):
        HumanJudge(file, seed=0).judge(items)
    assert everything.read_text(encoding="utf-8") == "filled in by hand"

    write_csv(file, [{**row, "verdict": "A" if i < 4 else ""} for i, row in enumerate(rows)])
    with pytest.raises(ResourceError, match="has no verdict on 7 of 11 pairs"):
        HumanJudge(file, seed=0).judge(items)

    (rest,) = set(file.parent.glob("pairs-*.jsonl")) - {everything.with_suffix(".jsonl")}
    assert [row["pair_id"] for row in read_jsonl(rest)] == [row["pair_id"] for row in rows[4:]]


def test_verdicts_of_another_run_are_refused(file: Path):
    items = items_of(DPO, REFERENCE)
    file.parent.mkdir()
    rows = [{"pair_id": pair_id(i), "verdict": "A"} for i in items if i.prompt_id != "p3"]
    write_csv(file, [*rows, {"pair_id": "0123456789abcdef", "verdict": "B"}])

    with pytest.raises(DataError, match=r"verdicts\.csv, verdict 12: pair '0123456789abcdef' is not one of this run's"):
        HumanJudge(file, seed=0).judge(items)


def test_first_call_names_the_pairs_of_the_run(file: Path):
    items = items_of(DPO, REFERENCE)
    file.parent.mkdir()
    write_csv(file, [{"pair_id": pair_id(i), "verdict": "unparsed"} for i in items])
    judge = HumanJudge(file, seed=0)
    judge._labels.pop(pair_id(items[3]))  # the equal pair, which no export has

    judge.judge(items)

    assert judge.judge(items[:2]) == ["unparsed", "unparsed"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "pair_id,verdict\nx,A\ny,maybe\n",
            r"\.csv, row 2: verdict 'maybe' is none of A, B, tie, unparsed; correct it",
        ),
        ("pair_id,verdict\nx,A\nx,B\n", r"\.csv, row 2: pair 'x' has a verdict already in row 1; keep one"),
        ("pair_id,label\nx,A\n", r"\.csv, row 1: no verdict; an export has the columns pair_id, post, "),
        ("id,verdict\nx,A\n", r"\.csv, row 1: no pair_id; an export has the columns pair_id, post, "),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str):
    path = tmp_path / "v.csv"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DataError, match=message):
        read_verdicts(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"pair_id": "x", "verdict": "A"}\n{"pair_id": "x"',
            r"cannot read .*v\.jsonl: .*; save it as JSONL in UTF-8",
        ),
        (b'{"pair_id": "x", "verdict": "A"}\n\n[1]\n', r"v\.jsonl, line 3: not a JSON object"),
        (b'{"pair_id": "x", "verdict": 3}\n', r"v\.jsonl, line 1: verdict 3 is none of"),
        (b"\xff\xfe", r"cannot read .*v\.jsonl: "),
    ],
)
def test_bad_lines(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "v.jsonl"
    path.write_bytes(content)

    with pytest.raises(DataError, match=message) as refused:
        read_verdicts(path)
    assert "\n" not in str(refused.value)
