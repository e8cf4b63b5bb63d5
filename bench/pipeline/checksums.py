"""The checksums of a finished stage's files: what was truncated or altered is found when the stage is read.

Every file is hashed each time its stage is taken from the cache (0.8 GB/s on one core of a server CPU, and a model's
file is read anyway), but one of more than 1 GiB, whose hashing would hold up a run: it is hashed when size or time of
change are not those that it was finished with, and by `python -m bench.cache verify`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.files import read_json, write_text

CHECKSUMS = "checksums.json"
RECORDS = ("stage.json", "training.jsonl")
"""Files that tell of the making, which no other stage reads; what they say differs from one making to the next."""

_BIG = 2**30  # bytes


def write_checksums(folder: Path) -> None:
    """Write down what is in the folder, with every file on the disk before its checksum is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / CHECKSUMS:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                stat = os.fstat(file.fileno())
            found[path.relative_to(folder).as_posix()] = {
                "bytes": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "sha256": sha256,
            }
    write_text(folder / CHECKSUMS, _rendered(found))


def damage(folder: Path, *, thorough: bool = False) -> str | None:
    """What is wrong with a finished stage's files, the first thing found; None where nothing is.

    A file that the checksums do not name is no damage.

    Args:
        thorough: hash files of more than 1 GiB too, though they look untouched.
    """
    try:
        files = read_json(folder / CHECKSUMS)["files"]
        is_whole = (folder / CHECKSUMS).read_bytes() == _rendered(files).encode()
    except FileNotFoundError:
        return f"{CHECKSUMS} is missing"
    except (ValueError, KeyError, TypeError, OSError):
        is_whole = False
    if not is_whole:
        return f"{CHECKSUMS} was altered"
    for name, expected in files.items():
        try:
            problem = _difference(folder / name, expected, thorough)
        except FileNotFoundError:
            problem = "is missing"
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
        if problem is not None:
            return f"{name} {problem}"
    return None


def content(folder: Path) -> str:
    """sha256 of what other stages read in the folder, by its checksums."""
    files: Mapping[str, Any] = read_json(folder / CHECKSUMS)["files"]
    return _hash({name: file["sha256"] for name, file in files.items() if name not in RECORDS})


def _difference(path: Path, expected: Mapping[str, Any], thorough: bool) -> str | None:
    stat = path.stat()
    if (lack := expected["bytes"] - stat.st_size) != 0:
        return f"is {abs(lack):,} bytes too {'short' if lack > 0 else 'long'}"
    if stat.st_size > _BIG and stat.st_mtime_ns == expected["mtime_ns"] and not thorough:
        return None
    with open(path, "rb") as file:
        is_same = hashlib.file_digest(file, "sha256").hexdigest() == expected["sha256"]
    return None if is_same else "was altered"


def _rendered(files: Mapping[str, Any]) -> str:
    """The file of checksums, which holds its own."""
    return json.dumps({"files": files, "sha256": _hash(files)}, indent=1, sort_keys=True) + "\n"


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
