"""What was truncated or altered in a finished stage is found, wherever it was."""

import os
import shutil
from pathlib import Path

import pytest

from bench.pipeline import checksums
from bench.pipeline.checksums import CHECKSUMS, content, damage, write_checksums

FILES = {"stage.json": b'{"cost": 1}', "model.safetensors": bytes(range(64)), "sub/rows.jsonl": b'{"a": 1}\n'}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "stage"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_checksums(folder)
    return folder


def test_a_whole_folder_has_no_damage(folder: Path):
    (folder / ".DS_Store").touch()  # nor does what others put there

    assert damage(folder) is damage(folder, thorough=True) is None


@pytest.mark.parametrize("name", [*FILES, CHECKSUMS])
def test_every_altered_byte_and_every_lost_end_is_found(name: str, folder: Path):
    path = folder / name
    whole = path.read_bytes()

    for position in range(0, len(whole), 7 if name == CHECKSUMS else 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        assert damage(folder) == f"{name} was altered", position
        path.write_bytes(whole[:position])
        missing = len(whole) - position
        problem = "was altered" if name == CHECKSUMS else f"is {missing} bytes too short"
        assert damage(folder) == f"{name} {problem}", position
    path.write_bytes(whole + b"\n")
    assert damage(folder) == f"{name} {'was altered' if name == CHECKSUMS else 'is 1 bytes too long'}"
    path.unlink()
    assert damage(folder) == f"{name} is missing"
    path.write_bytes(whole)
    assert damage(folder) is None


def test_a_big_file_that_looks_untouched_is_hashed_by_a_thorough_look_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checksums, "_BIG", 63)
    path = folder / "model.safetensors"
    stat = path.stat()
    path.write_bytes(bytes(64))
    assert damage(folder) == "model.safetensors was altered"  # written to, so it is hashed

    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as bits that flip on the disk leave it
    assert damage(folder) is None
    assert damage(folder, thorough=True) == "model.safetensors was altered"


def test_a_copy_is_whole(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)  # with other times

    assert damage(tmp_path / "copy") is None


def test_content_is_what_other_stages_read(folder: Path):
    before = content(folder)
    for name, changes in (("stage.json", False), ("model.safetensors", True)):
        (folder / name).write_bytes(b"other")
        write_checksums(folder)
        assert (content(folder) != before) == changes, name
