"""No terminal makes a command fail."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import processes
from bench.errors import ConfigError
from bench.terminal import spoken

ROOT = Path(__file__).parents[1]


def test_a_reader_that_has_gone_is_no_error():
    code = "import sys; from bench.terminal import spoken\n@spoken\ndef main():\n"
    code += "    [print('x' * 1000) for _ in range(1000)]\n    return 0\nsys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()

    assert (process.wait(), process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_what_an_encoding_lacks_is_written_as_an_escape():
    code = "import sys; from bench.terminal import spoken\nsys.exit(spoken(lambda: print('r\\xe9s') or 0)())"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (0, b"r\\xe9s\n")


def test_a_stream_that_is_no_terminals_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())

    assert spoken(lambda: 3)() == 3


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK"])
def test_a_launchers_variable_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "")
    processes.connect(processes.torch.device("cpu"))

    assert name not in os.environ


def test_a_world_size_that_is_no_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "two")

    with pytest.raises(ConfigError, match="WORLD_SIZE must be a number of processes, got 'two'; unset it"):
        processes.connect(processes.torch.device("cpu"))
