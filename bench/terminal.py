"""What every command of the package does with the terminal that it speaks to."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from io import TextIOWrapper
from typing import ParamSpec

P = ParamSpec("P")


def spoken(main: Callable[P, int]) -> Callable[P, int]:
    """The command, which no terminal makes fail: a character that its encoding lacks is written as an escape, and a
    reader that has gone (`--help | head`) has read enough."""

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            code = main(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes once more at its end; what it has to say then goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return code

    return run
