"""What the meter says of blocks whose cost is known."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from bench.cost import metered

CPU = torch.device("cpu")
MIB = 2**20
SIZE = 200 * MIB
SLACK = 40 * MIB  # the interpreter's own comings and goings


def resident() -> float:
    """Bytes that an idle block holds."""
    with metered(CPU) as cost:
        pass
    return cost.peak_rss_gib * 2**30


def test_wall_time_is_the_blocks():
    start = time.perf_counter()
    with metered(CPU, models_resident=3) as cost:
        inner = time.perf_counter()
        time.sleep(0.2)
        inner = time.perf_counter() - inner
    outer = time.perf_counter() - start

    assert 0.2 <= inner <= cost.wall_s <= outer
    assert cost.device_hours == pytest.approx(cost.wall_s / 3600)
    assert cost.gpu_hours == 0.0
    assert cost.models_resident == 3
    assert cost.peak_memory_gib == cost.peak_rss_gib


def test_peak_memory_is_that_of_a_block_freed_again():
    before = resident()
    with metered(CPU) as cost:
        block = np.ones(SIZE, dtype=np.uint8)
        time.sleep(0.2)  # four samples of the meter
        del block

    assert cost.peak_rss_gib * 2**30 - before == pytest.approx(SIZE, abs=SLACK)


def test_memory_of_child_processes_counts():
    """Their own: a child between fork and exec shows all of its parent's pages as resident too."""
    before = resident()
    with metered(CPU) as cost:
        code = f"block = b'1' * {SIZE}; print(flush=True); input()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.2)
        child.communicate(b"\n")

    assert cost.peak_rss_gib * 2**30 - before == pytest.approx(SIZE, abs=SLACK)


def test_a_block_that_fails_is_metered_too():
    with pytest.raises(ZeroDivisionError), metered(CPU) as cost:
        raise ZeroDivisionError

    assert cost.wall_s > 0
    assert cost.peak_rss_gib > 0


def test_a_fork_does_not_count_its_parents_pages_again():
    block = np.ones(SIZE, dtype=np.uint8)
    before = resident()
    with metered(CPU) as cost:
        child = os.fork()
        if child == 0:
            time.sleep(0.3)
            os._exit(0)
        time.sleep(0.2)
        os.waitpid(child, 0)

    assert block.nbytes == SIZE
    assert cost.peak_rss_gib * 2**30 - before < SLACK
