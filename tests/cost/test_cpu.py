"""Processor time of this process and its children, and what others took meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest

from bench.cost import cpu
from bench.cost.cpu import CpuMeter

BURN = """
import time
while time.process_time() < {}:
    pass
print(flush=True)
input()
"""


def burn(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def test_own_time_is_that_of_this_process():
    meter = CpuMeter()
    burn(1.0)
    time.sleep(0.2)

    assert meter.read().own_s == pytest.approx(1.0, abs=0.15)  # the system counts hundredths, other threads add some


def test_children_count_while_they_live_and_after_they_ended():
    before = CpuMeter()
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", BURN.format(1.0)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()  # it has burnt its second
    living = before.read().own_s
    between = CpuMeter()
    child.communicate(b"\n")

    assert living == pytest.approx(1.0, abs=0.2)
    assert before.read().own_s == pytest.approx(living, abs=0.2)
    assert between.read().own_s < 0.2  # what a child had used before is no part of what came later


class Machine:
    """Two processors and two processes of this run, with counters that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.own, self.run = 100.0, 5.0, 7.0
        self.busy = [SimpleNamespace(user=20.0, nice=0.0, system=1.0, idle=50.0, iowait=9.0, steal=0.0) for _ in "ab"]
        monkeypatch.setattr(cpu.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(cpu, "_own_s", lambda: self.own)
        monkeypatch.setattr(cpu, "_run_s", lambda: self.run)
        monkeypatch.setattr(cpu, "_usable_processors", lambda: [0, 1])
        monkeypatch.setattr(cpu.psutil, "cpu_times", lambda percpu: self.busy)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_others_share_is_what_was_busy_and_not_the_runs(machine: Machine):
    """10 s on two processors: 20 s of processor time, of which 8 + 4 were busy and the run's two processes took 5."""
    meter = CpuMeter()
    machine.now += 10
    machine.busy[0].user += 8
    machine.busy[1].system += 3
    machine.busy[1].steal += 1
    machine.busy[1].iowait += 6  # waiting for a disk takes no processor from anybody
    machine.own += 3
    machine.run += 5

    assert meter.read() == (3, pytest.approx((8 + 4 - 5) / 20))


def test_rounding_of_the_counters_gives_no_load_below_0(machine: Machine):
    meter = CpuMeter()
    machine.now += 10
    machine.busy[0].user += 4.9
    machine.run += 5

    assert meter.read().other_load == 0


def test_a_time_too_short_to_tell_has_no_load(machine: Machine):
    meter = CpuMeter()
    machine.now += 0.4

    assert meter.read().other_load is None


@pytest.fixture
def stranger() -> Iterator[None]:
    """A busy process that is no child of ours: its parent has ended."""
    busy = "[sys.executable, '-S', '-c', 'while True: pass'], stdout=subprocess.DEVNULL"
    code = f"import subprocess, sys; print(subprocess.Popen({busy}).pid)"
    pid = int(subprocess.run([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, check=True).stdout)
    assert pid not in {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    os.kill(pid, signal.SIGKILL)


def test_a_strangers_work_is_other_load(stranger: None):
    meter = CpuMeter()
    time.sleep(1.5)
    load = meter.read().other_load

    # It has one processor for itself where the others are idle; where they are not, their load counts as well.
    assert load is not None and load > 0.5 / len(cpu._usable_processors())


def test_the_processes_of_one_launcher_are_one_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    roots: list[int] = []
    monkeypatch.setattr(cpu, "_tree_s", lambda root: roots.append(root.pid) or 0.0)
    CpuMeter()

    assert roots == [os.getpid(), os.getppid()]
