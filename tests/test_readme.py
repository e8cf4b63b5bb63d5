"""The README says what the code says."""

import re
from pathlib import Path

from bench.arms import ARMS, REFERENCE

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_table_of_arms_is_the_table():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", README, re.MULTILINE)

    assert rows[:-1] == [(arm.name, arm.what) for arm in ARMS]
    assert rows[-1][0] == REFERENCE
