"""Answers of judges that cost something, kept on disk by the hash of the question; shared between runs."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import ResourceError
from bench.evaluate.judges.base import JudgeItem

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, answer TEXT NOT NULL, judge TEXT NOT NULL, prompt_hash TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
) WITHOUT ROWID
"""
_KEYS_AT_ONCE = 500  # SQLite takes at least 999 variables in one statement
_WAIT_FOR_OTHERS_S = 60


def question_key(asked: Mapping[str, Any], item: JudgeItem) -> str:
    """sha256 of everything that the answer depends on.

    Args:
        asked: who is asked and how: model, endpoint, prompt hash, decoding.
    """
    question = {**asked, "post": item.prompt, "first": item.first, "second": item.second}
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode("ascii")).hexdigest()


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

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """key -> raw answer, of those that are there."""
        found: dict[str, str] = {}
        with self._lock, self._explained():
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                found |= self._database.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", some)
        return found

    def put(
        self, key: str, answer: str, *, judge: str, prompt_hash: str, prompt_tokens: int, completion_tokens: int
    ) -> str:
        """Keep an answer and return the one that is kept: the first, where another process was faster."""
        row = (key, answer, judge, prompt_hash, prompt_tokens, completion_tokens)
        with self._lock, self._explained():
            self._database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
            (kept,) = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return kept

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ResourceError(
                f"cannot use the verdict cache {self.path}: {error}; free disk space, move the file away or choose"
                " another results_dir"
            ) from error
