"""What a run says of its stages: those that were there, its place among them, and how long the rest takes."""

from pathlib import Path

import pytest

from bench.files import write_json
from bench.pipeline.outlook import Awaited, Outlook
from bench.progress import WAY, StageBar, how_long

SCALE = {"pairs": 100}


def awaited(root: Path, *names: str) -> list[Awaited]:
    return [Awaited(name, root / f"{name}-key", SCALE) for name in names]


def made_before(root: Path, name: str, key: str, seconds: float, pairs: int = 100) -> None:
    write_json(root / f"{name}-{key}" / "stage.json", {"scale": {"pairs": pairs}, "cost": {"wall_s": seconds}})


def test_what_was_there_is_said_in_one_line_before_the_next_stage_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    outlook = Outlook(awaited(tmp_path, "base", "sft", "dpo", "generate_dpo"))
    for name in ("base", "sft"):
        outlook.ended(name, tmp_path / f"{name}-key", reused=True)
    assert capsys.readouterr().err == ""
    outlook.begins(tmp_path / "dpo-key")
    assert capsys.readouterr().err == "reused: base, sft\n"
    assert WAY.place == "3/4"

    outlook.ended("dpo", tmp_path / "dpo-key", reused=False)
    for temperature in ("0.5", "1"):  # a stage may be there once for every cell of the grid
        outlook.ended("generate_dpo", tmp_path / f"generate_dpo-{temperature}", reused=True)
    outlook.close()
    assert capsys.readouterr().err == "reused: generate_dpo (2 times)\n"
    assert (WAY.place, WAY.then) == ("", "")


def test_the_rest_is_the_sum_of_what_its_stages_took_before(tmp_path: Path):
    outlook = Outlook(awaited(tmp_path, "sft", "ppo", "dpo"))
    made_before(tmp_path, "ppo", "a", 100.0)
    made_before(tmp_path, "ppo", "b", 300.0)
    made_before(tmp_path, "ppo", "c", 140.0)
    made_before(tmp_path, "dpo", "a", 9999.0, pairs=7)  # of another scale
    (tmp_path / "dpo-b").mkdir()
    (tmp_path / "dpo-b" / "stage.json").write_text("{")

    outlook.begins(tmp_path / "sft-key")
    assert WAY.then == ""  # nobody knows how long DPO takes

    made_before(tmp_path, "dpo", "c", 60.0)
    outlook.begins(tmp_path / "sft-key")
    assert WAY.then == "then about 3 min"  # the median 140 s, and 60 s

    made_before(tmp_path, "ppo", "key", 140.0)  # another run has made it meanwhile
    outlook.begins(tmp_path / "sft-key")
    assert WAY.then == "then about 60 s"
    outlook.close()


def test_bars_show_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    outlook = Outlook(awaited(tmp_path, "sft", "dpo"))
    made_before(tmp_path, "dpo", "a", 240.0)
    outlook.begins(tmp_path / "sft-key")
    with StageBar("sft", 2, "steps") as bar:
        bar.update(2)
    outlook.close()
    last = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    assert last.startswith("  1/2 sft ") and last.rstrip().endswith(", then about 4 min]")

    with StageBar("judge", 2, "steps") as bar:
        bar.update(2)
    last = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    assert last.startswith("judge  ") and "then" not in last


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (7199, "120 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_times_in_words(seconds: float, words: str):
    assert how_long(seconds) == words
