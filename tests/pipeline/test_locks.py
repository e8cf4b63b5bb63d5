"""Who waits says for whom; what a process uses is known to others, until it ends."""

import multiprocessing
import os
import re
import threading
from pathlib import Path

import pytest

from bench.pipeline import locks
from bench.pipeline.locks import alone, is_in_use, is_locked, mark_in_use

FORK = multiprocessing.get_context("fork")


def hold(lock: Path, has_it, go_on) -> None:
    with alone(lock, "stage sft", "builtin/s0"):
        has_it.set()
        go_on.wait(60)


def test_the_second_says_for_whom_it_waits_and_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(locks, "_SOON_S", 0.05)
    monkeypatch.setattr(locks, "_POLL_S", 0.01)
    lock, has_it, go_on = tmp_path / ".sft.lock", FORK.Event(), FORK.Event()
    first = FORK.Process(target=hold, args=(lock, has_it, go_on))
    first.start()
    assert has_it.wait(60) and is_locked(lock)

    def say_and_let_go(text: str) -> None:
        said.append(text)
        go_on.set()

    said: list[str] = []
    monkeypatch.setattr(locks, "say", say_and_let_go)
    with alone(lock, "stage sft", "builtin/s1"):
        first.join()
    assert len(said) == 1
    pattern = rf"waiting for stage sft: process {first.pid} \(builtin/s0\) has been at it since \d\d:\d\d:\d\d"
    assert re.fullmatch(pattern, said[0])
    assert not is_locked(lock) and os.listdir(tmp_path) == [".sft.lock"]


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with alone(tmp_path / ".sft.lock", "stage sft", "me"):
        pass

    assert capsys.readouterr().err == ""


def test_a_note_that_says_nothing_is_no_hindrance(tmp_path: Path):
    (tmp_path / ".sft.holder").write_text("{")

    assert locks._holder(tmp_path / ".sft.holder") == "another process is at it"
    assert locks._holder(tmp_path / "none") == "another process is at it"


def test_a_lock_ends_with_its_process(tmp_path: Path):
    lock, has_it = tmp_path / ".sft.lock", FORK.Event()
    killed = FORK.Process(target=hold, args=(lock, has_it, FORK.Event()))
    killed.start()
    assert has_it.wait(60)
    killed.kill()
    killed.join()

    assert not is_locked(lock)
    with alone(lock, "stage sft", "me"):  # in spite of the note that it left
        assert is_locked_elsewhere(lock)


def is_locked_elsewhere(lock: Path) -> bool:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(is_locked(lock)))
    thread.start()
    thread.join()
    return found == [True]


def test_what_several_use_is_in_use_until_the_last_one_ends(tmp_path: Path):
    file = tmp_path / "checksums.json"
    assert not is_in_use(file)  # nor there
    file.touch()
    first, second = mark_in_use(file), mark_in_use(file)

    assert is_in_use(file)
    os.close(first)
    assert is_in_use(file)
    os.close(second)
    assert not is_in_use(file)
