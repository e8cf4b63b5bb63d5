"""Answers of judges that cost something, kept on disk by the hash of the question; shared between runs."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import ResourceError
from bench.evaluate.judges.base import JudgeItem

Outcome = Literal["finished", "cut_off", "refused", "filtered", "unfinished"]
"""How an answer ended: by itself; at its longest length; with the model's or the endpoint's refusal; unknown."""
Reading = Literal["text", "text_or_tie", "log_odds"]
"""How an answer is read: as text, where "tie" is a verdict or is not; as log p(A) - log p(B)."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, answer TEXT NOT NULL, judge TEXT NOT NULL, prompt_hash TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    outcome TEXT NOT NULL, reading TEXT NOT NULL
) WITHOUT ROWID
"""
_ADDED = ("outcome", "reading")  # columns that files of earlier versions lack
_UNKNOWN = "unknown"
_KEYS_AT_ONCE = 500  # SQLite takes at least 999 variables in one statement
_WAIT_FOR_OTHERS_S = 60


@dataclass(frozen=True)
class Answer:
    """A raw answer: what was said, or a number's digits, and how it ended."""

    text: str
    outcome: Outcome = "finished"


@dataclass(frozen=True)
class KeptAnswer:
    """A row of the cache. `outcome` and `reading` are "unknown" where an earlier version wrote it."""

    key: str
    judge: str
    prompt_hash: str
    text: str
    outcome: str
    reading: str
    prompt_tokens: int
    completion_tokens: int


def question_key(asked: Mapping[str, Any], item: JudgeItem) -> str:
    """sha256 of everything that the answer depends on.

    Args:
        asked: who is asked and how: model, endpoint, prompt hash, decoding.
    """
    question = {**asked, "post": item.prompt, "first": item.first, "second": item.second}
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode("ascii")).hexdigest()


def verdict_cache(cache_dir: Path) -> Path:
    """Where bought answers are kept, below `<results_dir>/.cache`."""
    return cache_dir / "verdicts" / "answers.sqlite"


class VerdictCache:
    """Raw answers in one SQLite file, each committed as it arrives.

    A killed process loses nothing that was put; several processes may share the file. The raw answer is kept and read
    anew each time, so a stricter or wiser reading needs no new request.

    Raises:
        ResourceError: the file cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path, timeout=_WAIT_FOR_OTHERS_S, isolation_level=None, check_same_thread=False
            )
            # Readers and writers do not block each other, and a commit needs no wait for the disk: it survives the
            # process, though not a power cut.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(_SCHEMA)
            self._add_columns()

    def get(self, keys: Sequence[str]) -> dict[str, Answer]:
        """key -> raw answer, of those that are there.

        Answers of earlier versions are not among them: nobody knows whether they were finished.
        """
        found: dict[str, Answer] = {}
        with self._lock, self._explained():
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = self._database.execute(
                    f"SELECT key, answer, outcome FROM answers WHERE outcome != ? AND key IN ({marks})",
                    [_UNKNOWN, *some],
                )
                found |= {key: Answer(text, outcome) for key, text, outcome in rows}
        return found

    def put(
        self,
        key: str,
        answer: Answer,
        *,
        judge: str,
        prompt_hash: str,
        reading: Reading,
        prompt_tokens: int,
        completion_tokens: int,
    ) -> Answer:
        """Keep an answer and return the one that is kept: the first, where another process was faster."""
        row = (key, answer.text, judge, prompt_hash, prompt_tokens, completion_tokens, answer.outcome, reading)
        with self._lock, self._explained():
            self._database.execute("DELETE FROM answers WHERE key = ? AND outcome = ?", (key, _UNKNOWN))
            self._database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            kept = self._database.execute("SELECT answer, outcome FROM answers WHERE key = ?", (key,)).fetchone()
        return Answer(*kept)

    def rows(self) -> Iterator[KeptAnswer]:
        """Everything that is kept, in the order of the keys."""
        with self._lock, self._explained():
            yield from (
                KeptAnswer(*row)
                for row in self._database.execute(
                    "SELECT key, judge, prompt_hash, answer, outcome, reading, prompt_tokens, completion_tokens"
                    " FROM answers"
                )
            )

    def drop(self, keys: Sequence[str]) -> int:
        """Forget these answers, which a run that needs them asks for again; returns how many there were."""
        with self._lock, self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            cursor = self._database.executemany("DELETE FROM answers WHERE key = ?", [(key,) for key in keys])
            self._database.execute("COMMIT")
        return max(cursor.rowcount, 0)  # -1 where nothing was to be done

    def _add_columns(self) -> None:
        """Give a file of an earlier version the columns that it lacks."""
        self._database.execute("BEGIN IMMEDIATE")  # or two processes add them at once
        known = {row[1] for row in self._database.execute("PRAGMA table_info(answers)")}
        for name in _ADDED:
            if name not in known:
                self._database.execute(f"ALTER TABLE answers ADD COLUMN {name} TEXT NOT NULL DEFAULT '{_UNKNOWN}'")
        self._database.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ResourceError(
                f"cannot use the verdict cache {self.path}: {error}; free disk space, move the file away or choose"
                " another results_dir"
            ) from error
