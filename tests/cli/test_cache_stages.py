"""`python -m bench.cache`: stages are listed, verified and pruned."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli.cache import main
from bench.cost import StageCost
from bench.files import read_json, write_json
from bench.pipeline.cache import StageCache
from bench.pipeline.stage_folder import lock_of, stages_dir
from bench.train.log import TrainingLog

HOUR = 3600


def never(folder: Path) -> tuple[StageCost, TrainingLog]:
    raise AssertionError("it was there")


@pytest.fixture
def sft_and_dpo(tmp_path: Path) -> tuple[Path, Path]:
    """Two stages; a run names the first, and the second was used five hours ago."""

    def build(folder: Path) -> tuple[StageCost, TrainingLog]:
        (folder / "model.safetensors").write_bytes(bytes(2048))
        return StageCost(), []

    cache = StageCache(stages_dir(tmp_path))
    sft, dpo = (cache.run(name, "code", {}, build).folder for name in ("sft", "dpo"))
    write_json(tmp_path / "builtin" / "s0" / "run.json", {"cache": [sft.name]})
    for path in (dpo / "stage.json", lock_of(dpo)):
        os.utime(path, (time.time() - 5 * HOUR, time.time() - 5 * HOUR))
    return sft, dpo


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """printed(command, *options): exit code and output."""

    def run(command: str, *options: str) -> tuple[int, str]:
        code = main([command, str(tmp_path), *options])
        return code, capsys.readouterr().out

    return run


Printed = Callable[..., tuple[int, str]]
Stages = tuple[Path, Path]


def test_list(sft_and_dpo: Stages, printed: Printed, tmp_path: Path):
    (tmp_path / ".cache" / "wheels").mkdir()
    (tmp_path / ".cache" / "wheels" / "one.whl").write_bytes(bytes(3 * 1024))
    sft, dpo = sft_and_dpo
    code, out = printed("list")

    where, header, first, second, totals, others = out.splitlines()
    assert (code, where) == (0, str(tmp_path / ".cache" / "stages"))
    assert header.split() == ["stage", "key", "size", "made", "used", "named", "by"]
    row = r"(\w+) +(\w{16}) +(3\.\d KiB) +(\d+ \w+ ago) +(\d+ \w+ ago) +(\S+)"
    found = [match for line in (first, second) if (match := re.fullmatch(row, line))]
    assert [match[1] for match in found] == ["dpo", "sft"]
    assert [match[2] for match in found] == [dpo.name[4:], sft.name[4:]]
    assert (found[0][4], found[0][5], found[0][6], found[1][6]) == ("5 h ago", "5 h ago", "-", "builtin/s0")
    assert re.fullmatch(r"2 \([67]\.\d KiB\) finished; no run folder names 1 \(3\.\d KiB\)", totals)
    assert others == "beside them: wheels 3.0 KiB"


def test_verify(sft_and_dpo: Stages, printed: Printed):
    sft, dpo = sft_and_dpo
    assert printed("verify")[0] == 0

    (dpo / "model.safetensors").write_bytes(bytes(2047) + b"1")
    code, out = printed("verify")
    assert code == 1
    assert f"{dpo.name}: damaged: model.safetensors was altered\n" in out and "1 whole, 1 damaged, 0 not read" in out

    (sft / "checksums.json").unlink()
    assert f"{sft.name}: damaged: checksums.json is missing\n" in printed("verify")[1]
    record = read_json(sft / "stage.json")
    del record["made_from"]
    write_json(sft / "stage.json", record)
    assert f"{sft.name}: made by a version without checksums" in printed("verify")[1]


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (["--unnamed"], {"dpo"}),
        (["--unused-for", "4h"], {"dpo"}),
        (["--unused-for", "6h"], set()),
        (["--to", "4KiB"], {"dpo"}),
        (["--to", "1 kB"], {"sft", "dpo"}),
        (["--to", "1GB"], set()),
    ],
)
def test_prune(options: list[str], gone: set[str], sft_and_dpo: Stages, printed: Printed, tmp_path: Path):
    code, would = printed("prune", *options, "--dry-run")
    assert code == 0 and all(folder.exists() for folder in sft_and_dpo)

    code, out = printed("prune", *options)
    assert code == 0 and out == would.replace("would remove", "removed")
    assert {folder.name.partition("-")[0] for folder in sft_and_dpo if not folder.exists()} == gone
    assert (tmp_path / "builtin" / "s0" / "run.json").exists()


def test_what_is_in_use_stays_and_is_named(sft_and_dpo: Stages, printed: Printed, tmp_path: Path):
    _, dpo = sft_and_dpo
    cache = StageCache(stages_dir(tmp_path))
    cache.run("dpo", "code", {}, never)

    for options in (["--dry-run"], []):
        assert f"{dpo.name}: stays, in use\n" in printed("prune", "--unnamed", *options)[1]
    assert dpo.exists()
    assert re.search(r"^dpo .* in use +-$", printed("list")[1], re.MULTILINE)


def test_mistakes_are_one_line(tmp_path: Path, sft_and_dpo: Stages, capsys: pytest.CaptureFixture[str]):
    assert main(["prune", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: say what may go: --unnamed, --unused-for TIME or --to SIZE")
    assert main(["list", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none/.cache/stages is not there: no run has kept")
    for option, value, problem in [("--unused-for", "soon", "is no time"), ("--to", "small", "is no size")]:
        with pytest.raises(SystemExit) as stopped:
            main(["prune", option, value])
        assert stopped.value.code == 2 and problem in capsys.readouterr().err


def test_help_says_what_is_there(capsys: pytest.CaptureFixture[str]):
    for arguments, words in [
        (["--help"], ["list", "verify", "prune", "answers"]),
        (["prune", "--help"], ["--unnamed", "--unused-for", "--to", "--dry-run", "30d"]),
    ]:
        with pytest.raises(SystemExit):
            main(arguments)
        out = capsys.readouterr().out
        assert all(word in out for word in words)
