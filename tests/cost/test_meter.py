"""What the meter says of blocks whose cost is known."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from bench.cost import StageCost, apart, meter, metered
from bench.cost.flops import gemm_peak
from bench.cost.meter import of_all, with_earlier

CPU = torch.device("cpu")
MIB = 2**20
SIZE = 200 * MIB
SLACK = 40 * MIB  # the interpreter's own comings and goings


def resident() -> float:
    """Bytes that an idle block holds."""
    with metered(CPU) as cost:
        pass
    return cost.peak_rss_gib * 2**30


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """samples(n): returns when the meter has taken n whole samples, however rare the machine's load makes them."""
    taken: list[None] = []
    sample = meter._Sampler._sample
    monkeypatch.setattr(meter._Sampler, "_sample", lambda self: (sample(self), taken.append(None)))

    def wait(n: int) -> None:
        enough = len(taken) + n + 1  # the one under way began before
        deadline = time.monotonic() + 120
        while len(taken) < enough:
            assert time.monotonic() < deadline, "the meter takes no samples"
            time.sleep(0.01)

    return wait


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
    assert (cost.flops, cost.mfu, cost.gemm_tflops) == (0, None, None)
    assert cost.cpu_s < 0.2  # it slept


def test_processor_time_is_the_blocks():
    with metered(CPU) as cost:
        burn(0.7)

    assert cost.cpu_s == pytest.approx(0.7, abs=0.15)
    assert cost.other_load is not None and 0 <= cost.other_load <= 1


def test_peak_memory_is_that_of_a_block_freed_again(samples: Callable[[int], None]):
    before = resident()
    with metered(CPU) as cost:
        block = np.ones(SIZE, dtype=np.uint8)
        samples(1)
        del block

    assert cost.peak_rss_gib * 2**30 - before == pytest.approx(SIZE, abs=SLACK)


def test_memory_of_child_processes_counts(samples: Callable[[int], None]):
    """Their own: a child between fork and exec shows all of its parent's pages as resident too."""
    before = resident()
    with metered(CPU) as cost:
        code = f"block = b'1' * {SIZE}; print(flush=True); input()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        samples(2)  # it counts from the second
        child.communicate(b"\n")

    assert cost.peak_rss_gib * 2**30 - before == pytest.approx(SIZE, abs=SLACK)


def test_what_is_done_apart_is_in_no_other_field(samples: Callable[[int], None]):
    """A block of three stretches: 0.2 s and one product, apart from it 0.5 s, 200 MiB and three, and 0.2 s and one."""
    a = torch.ones(64, 64)
    before = resident()
    with metered(CPU) as cost:
        burn(0.2)
        torch.mm(a, a)
        with apart():
            burn(0.5)
            block = np.ones(SIZE, dtype=np.uint8)
            samples(1)
            del block
            for _ in range(3):
                torch.mm(a, a)
        torch.mm(a, a)
        burn(0.2)

    assert cost.flops == 2 * 2 * 64**3 and cost.apart_flops == 3 * 2 * 64**3
    assert cost.wall_s >= 0.4 and cost.apart_wall_s >= 0.5
    assert cost.cpu_s == pytest.approx(0.4, abs=0.15)
    assert cost.device_hours == pytest.approx(cost.wall_s / 3600)
    assert cost.apart_device_hours == pytest.approx(cost.apart_wall_s / 3600)
    assert cost.peak_rss_gib * 2**30 - before < SLACK
    assert cost.gemm_tflops is not None and cost.mfu is not None
    assert cost.mfu == pytest.approx(cost.flops / (cost.gemm_tflops * 1e12) / cost.wall_s)


def test_apart_of_no_block_is_nothing():
    with apart():
        burn(0.01)
    with pytest.raises(ZeroDivisionError), metered(CPU) as cost, apart():
        raise ZeroDivisionError

    assert cost.apart_wall_s > 0 and cost.wall_s >= 0
    with metered(CPU) as cost:
        burn(0.01)
    assert cost.apart_wall_s == 0


def test_a_block_that_fails_is_metered_too():
    with pytest.raises(ZeroDivisionError), metered(CPU) as cost:
        torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3))
        raise ZeroDivisionError

    assert cost.wall_s > 0
    assert cost.peak_rss_gib > 0
    assert cost.flops == 2 * 2 * 3 * 4
    assert cost.energy_source


def test_a_peak_between_two_samples_is_seen(monkeypatch: pytest.MonkeyPatch):
    """The system's own high-water mark, where the block has raised it."""
    monkeypatch.setattr(meter, "_SAMPLE_EVERY_S", 60.0)
    before = meter._high_water_mark()
    size = before - psutil.Process().memory_info().rss + SIZE
    with metered(CPU) as cost:
        block = np.ones(size, dtype=np.uint8)
        del block

    assert cost.peak_rss_gib * 2**30 == pytest.approx(before + SIZE, abs=SLACK)


def test_samples_with_children_take_little_of_a_core(monkeypatch: pytest.MonkeyPatch):
    taken = []
    sample = meter._Sampler._sample
    monkeypatch.setattr(meter._Sampler, "_sample", lambda self: (burn(0.02), taken.append(1), sample(self)))
    with metered(CPU):
        time.sleep(0.5)

    assert len(taken) == 2  # at its start and at its end: 20 ms of work allow the next only after 4 s


def burn(cpu_seconds: float) -> None:
    start = time.thread_time()
    while time.thread_time() - start < cpu_seconds:
        pass


def test_mfu_is_the_time_at_the_measured_peak_over_the_wall_time():
    a = torch.randn(512, 512)
    with metered(CPU) as cost:
        for _ in range(20):
            torch.mm(a, a)
        time.sleep(0.2)

    assert cost.flops == 20 * 2 * 512**3
    assert cost.gemm_tflops is not None and cost.mfu is not None
    assert cost.gemm_tflops == pytest.approx(gemm_peak(CPU, torch.float32) / 1e12)
    assert cost.mfu == pytest.approx(cost.flops / (cost.gemm_tflops * 1e12) / cost.wall_s)
    assert cost.mfu > 0  # above 1 where the machine was busier while the peak was measured


TIME_V = """
import resource, subprocess, sys, time
print(flush=True)
sys.stdin.buffer.raw.readline()
start = time.perf_counter()
output = subprocess.run([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True).stdout.strip()
wall = time.perf_counter() - start
print(wall, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, output, flush=True)
"""
"""What `/usr/bin/time -v` does, which not every machine has: elapsed time and maximum resident set size of a command.

Small, because a process starts with the peak of the one that started it.
"""


class Timer:
    """A Python program that is started by `begin` and goes on, where it reads a line, at `end`."""

    def __init__(self, program: str) -> None:
        command = [sys.executable, "-S", "-c", TIME_V, program]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=Path(__file__).parents[2]
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it is up, and its start no part of what is timed

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait_for_a_line_on_stderr(self) -> None:
        assert self._process.stderr is not None
        self._process.stderr.readline()

    def end(self) -> tuple[float, float, str]:
        """The program's wall seconds, its peak bytes, and what it printed."""
        printed, _ = self._process.communicate("\n")
        wall, peak, *output = printed.split()
        return float(wall), float(peak), " ".join(output)


def test_wall_and_peak_memory_agree_with_time_v(samples: Callable[[int], None]):
    timer = Timer(f"import sys; block = b'1' * {SIZE}; print(file=sys.stderr); input()")
    before = resident()
    start = time.perf_counter()
    with metered(CPU) as cost:
        timer.begin()
        timer.wait_for_a_line_on_stderr()
        samples(2)
        wall, peak, _ = timer.end()
    passed = time.perf_counter() - start

    assert 0 < wall <= cost.wall_s <= passed
    assert cost.peak_rss_gib * 2**30 - before == pytest.approx(peak, rel=0.05)


@pytest.mark.slow
def test_a_programs_own_peak_agrees_with_time_v():
    program = f"""
import time, numpy, torch
from bench.cost import metered
with metered(torch.device("cpu")) as cost:
    block = numpy.ones({SIZE}, dtype=numpy.uint8)
    del block
print(cost.peak_rss_gib)
"""
    timer = Timer(program)
    timer.begin()
    _, peak, printed = timer.end()

    assert float(printed) * 2**30 == pytest.approx(peak, rel=0.05)


@pytest.mark.long
def test_a_fork_does_not_count_its_parents_pages_again(samples: Callable[[int], None]):
    block = np.ones(SIZE, dtype=np.uint8)
    before = resident()
    with metered(CPU) as cost:
        child = os.fork()
        if child == 0:
            signal.pause()
        samples(2)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    assert block.nbytes == SIZE
    assert cost.peak_rss_gib * 2**30 - before < SLACK


def test_of_several_processes_that_share_the_work():
    """Times add up, the wall time does not; what others took is the machine's, however many share it."""
    cost = StageCost(wall_s=10.0, cpu_s=15.0, other_load=0.2, device_hours=1.0, gpu_hours=1.0, flops=100)
    cost = replace(cost, apart_wall_s=3.0, apart_device_hours=0.5, apart_flops=7)
    both = of_all(cost, 2)

    assert (both.wall_s, both.cpu_s, both.other_load, both.devices) == (10.0, 30.0, 0.2, 2)
    assert (both.device_hours, both.gpu_hours, both.flops) == (2.0, 2.0, 200)
    assert (both.apart_wall_s, both.apart_device_hours, both.apart_flops) == (3.0, 1.0, 14)


def test_earlier_attempts_went_at_the_rate_of_the_last():
    cost = StageCost(wall_s=10.0, cpu_s=15.0, other_load=0.2, device_hours=1.0, flops=100, energy_kwh=0.5)
    whole = with_earlier(cost, 5.0)

    assert (whole.wall_s, whole.cpu_s, whole.device_hours, whole.flops, whole.energy_kwh) == (15, 22.5, 1.5, 150, 0.75)
    assert with_earlier(StageCost(), 5.0).wall_s == 0.0
    # 5 earlier seconds went to the two in the same parts, 4 to 1.
    both = with_earlier(StageCost(wall_s=8.0, apart_wall_s=2.0, apart_device_hours=1.0, apart_flops=10), 5.0)
    assert (both.wall_s, both.apart_wall_s, both.apart_device_hours, both.apart_flops) == (12, 3, 1.5, 15)
