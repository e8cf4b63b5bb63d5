"""What the evaluator has found before: numbers on disk, by all that went into them, so that a sweep asks once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.files import read_json, write_json
from bench.progress import say
from bench.provenance import stable_hash


class Memo:
    """`<root>/<what>-<hash>.json` per answer; another version of the code (`code`) asks again."""

    def __init__(self, root: Path, code: str) -> None:
        self.root, self.code = root, code

    def __call__(self, what: str, inputs: Any, compute: Callable[[], Any]) -> Any:
        """`compute()`, or what it gave for the same inputs; both are JSON."""
        path = self.root / f"{what}-{stable_hash([self.code, what, inputs])[:24]}.json"
        if path.exists():
            try:
                kept = read_json(path)
                if kept["sha256"] == stable_hash(kept["found"]):
                    return kept["found"]
            except (ValueError, KeyError, TypeError):
                pass
            say(f"{path} was truncated or altered; what it held is computed again")
        found = compute()
        write_json(path, {"found": found, "sha256": stable_hash(found)})
        return found
