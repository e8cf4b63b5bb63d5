"""What the C library does with freed memory."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from bench.cost import metered
from bench.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    block = torch.ones(50 * 2**20)
    del block
print(faults())
with metered(torch.device("cpu")) as cost:
    pass
print(cost.peak_rss_gib)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_blocks_are_used_again_and_the_meter_does_not_count_them():
    """200 MiB are 51,200 pages of 4 KiB, which without it are faulted in at each of ten allocations."""
    kept, given_back = (
        [
            float(line)
            for line in subprocess.run(
                [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
            ).stdout.split()
        ]
        for mode in ("keep", "give back")
    )
    assert kept[0] < 0.6 * given_back[0] and given_back[0] > 10 * 51200
    assert kept[1] == pytest.approx(given_back[1], abs=0.1)  # GiB
