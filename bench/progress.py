"""One line per stage on the terminal: a bar, the time left, and the number that matters."""

import os
import sys

from tqdm import tqdm

_FORMAT = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}{then}]{postfix}"


_IS_QUIET = os.environ.get("RANK", "0").strip() not in ("", "0")  # of several processes the first one speaks


def say(text: str) -> None:
    """Print a line on stderr above the bar, which stays whole."""
    if not _IS_QUIET:
        tqdm.write(text, file=sys.stderr)


def how_long(seconds: float) -> str:
    """A time in the largest unit of which there are two: 90 s, 3 h, 12 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def say_resumed(stage: str, done: int, unit: str) -> None:
    say(f"{stage}: goes on after {done} {unit}, from a checkpoint")


class Way:
    """Where in its run a stage stands; every bar shows it. One run at a time tells it.

    Attributes:
        place: "5/11", or nothing.
        then: what comes behind the stage, "then about 4 min", or nothing.
    """

    place = ""
    then = ""


WAY = Way()


class StageBar:
    """Progress of one stage; on a log file instead of a terminal it prints a line every half minute."""

    def __init__(self, stage: str, total: int, unit: str) -> None:
        self._bar = tqdm(
            total=total,
            desc=f"{WAY.place:>5} {stage:<14}" if WAY.place else f"{stage:<14}",
            unit=f" {unit}",
            file=sys.stderr,
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 30,
            bar_format=_FORMAT.replace("{then}", f", {WAY.then}" if WAY.then else ""),
            disable=_IS_QUIET,
        )

    def update(self, done: int, **numbers: float | None) -> None:
        """Advance by `done` units and show the numbers beside the bar."""
        if numbers:
            self._bar.set_postfix(
                {key: f"{value:.3g}" for key, value in numbers.items() if value is not None}, refresh=False
            )
        self._bar.update(done)

    def close(self) -> None:
        self._bar.refresh()
        self._bar.close()

    def __enter__(self) -> "StageBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
