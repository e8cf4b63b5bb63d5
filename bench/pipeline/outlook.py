"""What a run says of its way through the stages: what was there already, which of how many it makes, what is left.

The rest is said where it is known: each stage that is to be made after this one was made before at the same scale.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.files import read_json
from bench.progress import WAY, how_long, say


class Awaited(NamedTuple):
    """A stage of the run: its folder in the cache, and its scale: all that its time hangs on, as far as is known."""

    name: str
    folder: Path
    scale: Mapping[str, Any]


class Outlook:
    """Told of every stage that is reused, begun and done, in the order of the run."""

    def __init__(self, awaited: Sequence[Awaited] = ()) -> None:
        self._awaited = tuple(awaited)
        self._done: set[Path] = set()
        self._reused: list[str] = []

    def begins(self, folder: Path) -> None:
        """A stage is being made: its bars show its place."""
        self._tell_reused()
        if folder not in [stage.folder for stage in self._awaited]:
            return
        WAY.place = f"{len(self._done) + 1}/{len(self._awaited)}"
        later = [stage for stage in self._awaited if stage.folder not in {*self._done, folder}]
        times = [self._seconds(stage) for stage in later if not stage.folder.exists()]
        known = [seconds for seconds in times if seconds is not None]
        WAY.then = f"then about {how_long(sum(known))}" if known and len(known) == len(times) else ""

    def ended(self, name: str, folder: Path, reused: bool) -> None:
        self._done.add(folder)
        if reused:
            self._reused.append(name)

    def close(self) -> None:
        """All stages are there."""
        self._tell_reused()
        WAY.place = WAY.then = ""

    def _tell_reused(self) -> None:
        counts = Counter(self._reused)
        if counts:
            say("reused: " + ", ".join(name if n == 1 else f"{name} ({n} times)" for name, n in counts.items()))
        self._reused = []

    def _seconds(self, awaited: Awaited) -> float | None:
        """The median of what it took to make stages of this kind and scale; None where there were none."""
        times = []
        for path in awaited.folder.parent.glob(f"{awaited.name}-*/stage.json"):
            try:
                record = read_json(path)
                if record["scale"] == awaited.scale:
                    times.append(float(record["cost"]["wall_s"] + record["cost"].get("apart_wall_s", 0.0)))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return median(times) if times else None
