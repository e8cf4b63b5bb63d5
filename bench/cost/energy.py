"""Energy read from hardware counters, never estimated from a processor's rated power; CO2 from a country's grid.

RAPL counts the CPU packages (read through codecarbon), NVML the GPU. Both count the whole device, other people's work
included.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Protocol

import torch

RAPL_FOLDER = "/sys/class/powercap/intel-rapl/subsystem"
_MJ_PER_KWH = 3.6e9  # NVML counts millijoules


class _Counter(Protocol):
    name: str

    def read(self) -> None: ...

    @property
    def kwh(self) -> float: ...


class EnergyMeter:
    """Energy from now on. `read` it at least every few minutes: RAPL's counter is small and starts again at 0."""

    def __init__(self, device: torch.device, rapl_folder: str = RAPL_FOLDER) -> None:
        self._counters: list[_Counter] = []
        reasons = []
        opened: list[_Counter | str] = [_open_rapl(rapl_folder)]
        if device.type == "cuda":
            opened.append(_open_nvml(device))
        for counter in opened:
            if isinstance(counter, str):
                reasons.append(counter)
            else:
                self._counters.append(counter)
        self._reason = "; ".join(reasons)

    @property
    def source(self) -> str:
        """The counters that are read, as `rapl`, `nvml` or `rapl+nvml`; or `none` and why."""
        return "+".join(counter.name for counter in self._counters) or f"none: {self._reason}"

    def read(self) -> None:
        for counter in self._counters:
            counter.read()

    @property
    def kwh(self) -> float | None:
        """Up to the last `read`; None where no counter can be read."""
        return sum(counter.kwh for counter in self._counters) if self._counters else None


class _Rapl:
    name = "rapl"

    def __init__(self, folder: str) -> None:
        from codecarbon.core.cpu import IntelRAPL

        self._rapl = IntelRAPL(rapl_dir=folder)
        self._rapl.start()
        self._last = time.perf_counter()
        self.kwh = 0.0

    def read(self) -> None:
        from codecarbon.core.units import Time

        now = time.perf_counter()
        read = self._rapl.get_cpu_details(Time.from_seconds(now - self._last))
        self.kwh += sum(value for name, value in read.items() if "Power" not in name)
        self._last = now


class _Nvml:
    name = "nvml"

    def __init__(self, read_mj: Callable[[], int]) -> None:
        self._read_mj = read_mj
        self._start = self._last = read_mj()

    def read(self) -> None:
        self._last = self._read_mj()

    @property
    def kwh(self) -> float:
        return (self._last - self._start) / _MJ_PER_KWH


def _open_rapl(folder: str) -> _Counter | str:
    """The counter, or why there is none."""
    if not os.path.isdir(folder):
        return "this machine has no RAPL counter"
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it reports every counter that it may not read
    from codecarbon.core.cpu import is_rapl_available  # here, because only machines with a counter need pandas for it

    return _Rapl(folder) if is_rapl_available(folder) else "the RAPL counter may be read by root alone"


def _open_nvml(device: torch.device) -> _Counter | str:
    """The counter, or why there is none."""
    import pynvml  # here, because it wants a driver

    try:
        pynvml.nvmlInit()
        # By identity: CUDA_VISIBLE_DEVICES renumbers the devices for torch and not for NVML.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return _Nvml(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    except pynvml.NVMLError as error:
        return f"NVML: {error}"


def carbon_intensity(country: str | None) -> float | None:
    """Grams of CO2 equivalent per kWh of a country's electricity (ISO 3166 alpha-3), as codecarbon's tables have it.

    None asks for the world's average (IEA). The result is None for a country that the tables lack.
    """
    from codecarbon.input import DataSource  # here, because it reads tables with pandas

    if country is None:
        return float(DataSource().get_carbon_intensity_per_source_data()["world_average"])
    entry = DataSource().get_global_energy_mix_data().get(country)
    return None if entry is None else float(entry["carbon_intensity"])
