"""`~` in what is typed: shells leave it alone behind KEY=, and Hydra's grammar does not know it."""

import re
from collections.abc import Iterable
from pathlib import Path


def at_home(arguments: Iterable[str]) -> list[str]:
    """The arguments with `~` written out where a value begins with it: `results_dir=~/runs`, `name=~/a,~/b`."""
    return [re.sub(r"(?<=[=,])~(?=[/,]|$)", lambda _: str(Path.home()), argument) for argument in arguments]
