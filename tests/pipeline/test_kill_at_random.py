"""`kill -9` at random moments of a whole run: the short form of what `kill_at_random.py` does fifty times."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_at_random.py")


@pytest.mark.slow
@pytest.mark.long
def test_two_kills():
    done = subprocess.run([sys.executable, SCRIPT, "--times", "2"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 as if nothing had been" in done.stdout
