"""Locks between processes: a waiter says whom it waits for, and what a process uses nobody removes.

All of them end with the process, however it ends.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bench.progress import say

_SOON_S = 1.0
_POLL_S = 0.5


@contextmanager
def alone(lock: Path, what: str, by: str) -> Iterator[None]:
    """Hold the lock while the block runs. Where another process has it, say so and wait, however long.

    Args:
        what: is locked; `by`: who this is, for those who wait.
    """
    held, note = FileLock(lock), lock.with_suffix(".holder")
    try:
        held.acquire(timeout=_SOON_S)
    except Timeout:
        say(f"waiting for {what}: {_holder(note)}")
        held.acquire(poll_interval=_POLL_S)
    try:
        note.write_text(
            json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "by": by, "since": time.time()}),
            encoding="utf-8",
        )
        yield
    finally:
        note.unlink(missing_ok=True)
        held.release()


def _holder(note: Path) -> str:
    """Who has the lock, in words, as far as its note says."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        where = "" if found["host"] == socket.gethostname() else f" on {found['host']}"
        since = time.strftime("%H:%M:%S", time.localtime(found["since"]))
        return f"process {found['pid']}{where} ({found['by']}) has been at it since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process is at it"


def is_locked(lock: Path) -> bool:
    """Whether a process holds the lock at this moment."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def mark_in_use(file: Path) -> int:
    """A descriptor that marks the file as in use until it is closed; several processes may."""
    descriptor = os.open(file, os.O_RDONLY)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


def is_in_use(file: Path) -> bool:
    """Whether a process has marked the file, or nobody can tell."""
    try:
        with open(file, "r+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
