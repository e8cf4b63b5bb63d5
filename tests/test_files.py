"""Files are whole or absent."""

import errno
import json
import os
from pathlib import Path

import pytest

from bench.errors import ResourceError
from bench.files import atomic_open, read_json, read_jsonl, write_json, write_jsonl


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    with pytest.raises(ZeroDivisionError), atomic_open(path) as handle:
        handle.write("half of the new")
        raise ZeroDivisionError

    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    with atomic_open(path) as handle:
        handle.write("new")
        handle.flush()
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_synced_before_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A rename that reaches the disk before the content would leave an empty file after a power cut."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))

    write_json(tmp_path / "a.json", 1)

    assert calls == ["fsync", "replace"]


def test_disk_full_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ResourceError, match=r"^cannot write .*a\.json: No space left on device; free disk space"):
        write_json(tmp_path / "a.json", {"x": 1})

    assert os.listdir(tmp_path) == []


def test_a_folder_below_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(ResourceError, match=r"^cannot write .*; free disk space or choose another results_dir$"):
        write_json(tmp_path / "file" / "a.json", 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused_and_the_old_file_kept(value: float, tmp_path: Path):
    write_json(tmp_path / "a.json", {"x": 1.0})
    write_jsonl(tmp_path / "a.jsonl", [{"x": 1.0}])

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "a.jsonl", [{"x": 2.0}, {"x": value}])

    assert read_json(tmp_path / "a.json") == {"x": 1.0}
    assert read_jsonl(tmp_path / "a.jsonl") == [{"x": 1.0}]
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.jsonl"]


def test_rows_are_lines_whatever_they_hold(tmp_path: Path):
    rows = [{"text": "two\nlines \u2028 \x85 é 🙂"}, {"text": ""}]

    write_jsonl(tmp_path / "rows.jsonl", rows)

    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == rows and lines[-1] == ""
    assert read_jsonl(tmp_path / "rows.jsonl") == rows


def test_artifacts_can_be_read_by_others(tmp_path: Path):
    write_json(tmp_path / "a.json", 1)

    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644
