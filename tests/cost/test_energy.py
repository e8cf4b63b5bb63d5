"""Energy from counters whose readings are known: a RAPL folder of our own, and a driver that answers what we say."""

import sys
import types
from pathlib import Path

import pytest
import torch

from bench.cost.energy import EnergyMeter, carbon_intensity

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
J_PER_KWH = 3.6e6
RANGE_UJ = 262_143_328_850  # a real processor's


class Rapl:
    """A powercap folder with one domain per name; `set` writes a domain's counter, in joules."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        for i, name in enumerate(names):
            domain = folder / f"intel-rapl:{i}"
            domain.mkdir(parents=True)
            (domain / "name").write_text(name)
            (domain / "max_energy_range_uj").write_text(str(RANGE_UJ))
            self.set(i, 0)

    def set(self, domain: int, joules: float) -> None:
        (self.folder / f"intel-rapl:{domain}" / "energy_uj").write_text(str(round(joules * 1e6)))


def test_rapl_adds_the_packages(tmp_path: Path):
    rapl = Rapl(tmp_path / "rapl", "package-0", "package-1", "core")
    rapl.set(0, 1000)
    meter = EnergyMeter(CPU, str(rapl.folder))
    rapl.set(0, 1360)
    rapl.set(1, 500)
    rapl.set(2, 99)  # a part of its package
    meter.read()

    assert meter.source == "rapl"
    assert meter.kwh == pytest.approx((360 + 500) / J_PER_KWH)


def test_a_rapl_counter_that_starts_again_at_zero(tmp_path: Path):
    rapl = Rapl(tmp_path / "rapl", "package-0")
    rapl.set(0, RANGE_UJ / 1e6 - 40)
    meter = EnergyMeter(CPU, str(rapl.folder))
    for joules in (10, 60):
        rapl.set(0, joules)
        meter.read()

    assert meter.kwh == pytest.approx((40 + 60) / J_PER_KWH)


def test_no_counter_is_no_energy(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    absent = EnergyMeter(CPU, str(tmp_path / "nothing"))
    empty = EnergyMeter(CPU, str(tmp_path))
    for meter in (absent, empty):
        meter.read()

    assert absent.kwh is None and empty.kwh is None
    assert absent.source == "none: this machine has no RAPL counter"
    assert empty.source == "none: the RAPL counter may be read by root alone"
    assert not caplog.records


class NVMLError(Exception):
    pass


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A driver whose one GPU has used `driver.joules` so far; `driver.broken` makes it refuse."""
    state = types.SimpleNamespace(joules=5000.0, broken=False, asked_for=[])

    def handle(uuid: str) -> str:
        state.asked_for.append(uuid)
        return "handle"

    def energy(handle: str) -> int:
        if state.broken:
            raise NVMLError("Not Supported")
        return round(state.joules * 1000)

    fake = types.ModuleType("pynvml")
    vars(fake).update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=energy,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="12-ab"))
    return state


def test_nvml_counts_the_gpu_that_is_used(driver: types.SimpleNamespace, tmp_path: Path):
    meter = EnergyMeter(GPU, str(tmp_path / "nothing"))
    driver.joules += 7200
    meter.read()

    assert meter.source == "nvml"
    assert meter.kwh == pytest.approx(0.002)
    assert driver.asked_for == ["GPU-12-ab"]


def test_both_counters_are_added(driver: types.SimpleNamespace, tmp_path: Path):
    rapl = Rapl(tmp_path / "rapl", "package-0")
    meter = EnergyMeter(GPU, str(rapl.folder))
    driver.joules += 100
    rapl.set(0, 260)
    meter.read()

    assert meter.source == "rapl+nvml"
    assert meter.kwh == pytest.approx(360 / J_PER_KWH)


def test_a_gpu_without_a_counter(driver: types.SimpleNamespace, tmp_path: Path):
    driver.broken = True
    meter = EnergyMeter(GPU, str(tmp_path / "nothing"))

    assert meter.kwh is None
    assert meter.source == "none: this machine has no RAPL counter; NVML: Not Supported"


def test_carbon_intensity_is_the_countrys_or_the_worlds():
    """France runs on nuclear power, Poland on coal; the world is in between."""
    france, world, poland = (carbon_intensity(country) for country in ("FRA", None, "POL"))
    assert france is not None and world is not None and poland is not None

    assert 20 < france < 100 < world < poland < 1000  # g/kWh
    assert carbon_intensity("XYZ") is None
