import itertools
import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import ResourceError
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.cache import Answer, VerdictCache, question_key

ASKED = {"model": "m", "base_url": "http://x/v1", "prompt_hash": "h", "temperature": 0.0}
ITEM = JudgeItem("p", "post", "first", "second")
COUNTS = {"judge": "openai", "prompt_hash": "h", "reading": "text", "prompt_tokens": 1, "completion_tokens": 2}


def test_key_names_everything_that_the_answer_depends_on():
    others = [replace(ITEM, **{name: "other"}) for name in ("prompt", "first", "second")]
    keys = [question_key(ASKED, item) for item in (ITEM, *others, replace(ITEM, first="second", second="first"))]
    keys += [question_key({**ASKED, name: "other"}, ITEM) for name in ASKED]

    assert len(set(keys)) == 1 + 3 + 1 + 4
    assert question_key(ASKED, replace(ITEM, prompt_id="q")) == keys[0]  # a name that the judge does not see


def test_answers_come_back(tmp_path: Path):
    path = tmp_path / "deep" / "answers.sqlite"
    outcomes = itertools.cycle(["finished", "cut_off", "refused", "filtered", "unfinished"])
    answers = {f"key{i}": Answer(f"answer {i} \x00 \u202e \U0001f600", next(outcomes)) for i in range(1200)}  # pyright: ignore[reportArgumentType]
    first = VerdictCache(path)
    for key, answer in answers.items():
        assert first.put(key, answer, **COUNTS) == answer

    assert VerdictCache(path).get([*answers, "unknown"]) == answers


def test_the_first_answer_stays(tmp_path: Path):
    one, other = VerdictCache(tmp_path / "c.sqlite"), VerdictCache(tmp_path / "c.sqlite")

    first = Answer("Preferred: A")
    assert one.put("key", first, **COUNTS) == first
    assert other.put("key", Answer("Preferred: B", "cut_off"), **COUNTS) == first
    assert one.get(["key"]) == {"key": first}


def test_threads_and_processes_share_a_file(tmp_path: Path):
    """Three processes of four threads each write 100 answers, half of them the same."""
    path = tmp_path / "c.sqlite"
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_put_100, args=(path, f"p{i}")) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    keys = [f"key{i}" for i in range(1, 100, 2)] + [f"p{p}-key{i}" for p in range(3) for i in range(0, 100, 2)]
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert VerdictCache(path).get(keys) == {key: Answer(f"answer of {key}") for key in keys}


def _put_100(path: Path, process: str) -> None:
    cache = VerdictCache(path)
    keys = [f"key{i}" if i % 2 else f"{process}-key{i}" for i in range(100)]
    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(lambda key: cache.put(key, Answer(f"answer of {key}"), **COUNTS), keys))
    assert kept == [Answer(f"answer of {key}") for key in keys]


def test_a_file_that_is_no_cache_is_explained(tmp_path: Path):
    path = tmp_path / "c.sqlite"
    path.write_text("something else " * 100)

    with pytest.raises(ResourceError, match=r"^cannot use the verdict cache .*c\.sqlite: file is not a database; "):
        VerdictCache(path)


def test_a_full_disk_is_explained(tmp_path: Path):
    cache = VerdictCache(tmp_path / "c.sqlite")
    cache._database.execute("PRAGMA max_page_count = 3")

    with pytest.raises(ResourceError, match="database or disk is full; free disk space"):
        cache.put("key", Answer("x" * 100_000), **COUNTS)
    assert cache.get(["key"]) == {}


def test_the_file_can_be_read_with_sqlite(tmp_path: Path):
    VerdictCache(tmp_path / "c.sqlite").put("key", Answer("Preferred: A"), **COUNTS)

    rows = sqlite3.connect(tmp_path / "c.sqlite").execute("SELECT * FROM answers").fetchall()
    assert rows == [("key", "Preferred: A", "openai", "h", 1, 2, "finished", "text")]


def test_answers_of_an_earlier_version_are_asked_for_again(tmp_path: Path):
    """It did not keep how an answer ended, so that a verdict may be a thought that was cut off."""
    path = tmp_path / "c.sqlite"
    earlier = sqlite3.connect(path)
    earlier.execute(
        "CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, judge TEXT NOT NULL, prompt_hash TEXT NOT"
        " NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL) WITHOUT ROWID"
    )
    earlier.execute("INSERT INTO answers VALUES ('key', 'Preferred: A', 'openai', 'h', 1, 2)")
    earlier.commit()

    cache = VerdictCache(path)

    assert cache.get(["key"]) == {}
    assert [(row.text, row.outcome, row.reading) for row in cache.rows()] == [("Preferred: A", "unknown", "unknown")]
    assert cache.put("key", Answer("Preferred: B"), **COUNTS) == Answer("Preferred: B")
    assert VerdictCache(path).get(["key"]) == {"key": Answer("Preferred: B")}
    assert [row.outcome for row in cache.rows()] == ["finished"]


def test_what_is_dropped_is_gone(tmp_path: Path):
    cache = VerdictCache(tmp_path / "c.sqlite")
    for i in range(5):
        cache.put(f"key{i}", Answer("Preferred: A"), **COUNTS)

    assert cache.drop(["key1", "key3", "unknown"]) == 2
    assert [row.key for row in VerdictCache(cache.path).rows()] == ["key0", "key2", "key4"]
    assert cache.drop([]) == 0
