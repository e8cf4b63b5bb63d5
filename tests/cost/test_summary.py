"""Sums over stages, and what follows from them, against numbers worked out here."""

from typing import Any

import pytest

from bench.cost import CostConfig, StageCost, judge_cost, summed
from bench.cost.energy import carbon_intensity
from bench.cost.projection import ACCELERATORS, project
from bench.errors import ConfigError

TRAINING = StageCost(
    wall_s=100.0, cpu_s=150.0, device_hours=0.5, gpu_hours=0.5, peak_memory_gib=3.0, peak_rss_gib=2.0,
    models_resident=1, tokens_trained=1000, flops=6 * 10**15, mfu=0.4, gemm_tflops=1.0, energy_kwh=0.25,
    energy_source="nvml",
)  # fmt: skip
SAMPLING = StageCost(
    wall_s=300.0, cpu_s=50.0, device_hours=1.5, gpu_hours=1.5, peak_memory_gib=1.0, peak_rss_gib=4.0, models_resident=4,
    tokens_generated=200, flops=10**15, mfu=0.1, gemm_tflops=1.0, energy_kwh=0.5, energy_source="nvml",
)  # fmt: skip


def test_stages_are_summed_and_their_peaks_are_not():
    total = summed({"train": TRAINING, "sample": SAMPLING}, CostConfig())

    expected = {
        "wall_s": 400.0, "cpu_s": 200.0, "device_hours": 2.0, "gpu_hours": 2.0, "flops": 7 * 10**15,
        "tokens_trained": 1000, "tokens_generated": 200, "peak_memory_gib": 3.0, "peak_rss_gib": 4.0,
        "models_resident": 4,
    }  # fmt: skip
    assert {key: total[key] for key in expected} == expected
    assert list(total["stages"]) == ["train", "sample"]
    assert total["stages"]["train"].items() >= TRAINING.to_dict().items()
    # 0.4 of the peak for a quarter of the time, 0.1 for the rest.
    assert total["mfu"] == pytest.approx(0.25 * 0.4 + 0.75 * 0.1)


@pytest.mark.parametrize(
    ("cost", "busy"),
    [
        (StageCost(other_load=0.11), True),
        (StageCost(other_load=0.10), False),
        (StageCost(other_load=None), False),  # too short to tell
        (StageCost(other_load=0.11, gpu_hours=1.0), False),  # the processors' load is not the GPU's
    ],
)
def test_a_stage_beside_other_work_is_marked(cost: StageCost, busy: bool):
    total = summed({"quiet": StageCost(), "stage": cost}, CostConfig(busy_above=0.1))

    assert total["busy"] == (["stage"] if busy else [])


def test_energy_becomes_co2_by_the_grid():
    total = summed({"train": TRAINING, "sample": SAMPLING}, CostConfig(country="FRA"))

    grams_per_kwh = carbon_intensity("FRA")
    assert grams_per_kwh is not None
    assert total["energy_kwh"] == pytest.approx(0.75)
    assert total["co2_kg"] == pytest.approx(0.75 * grams_per_kwh / 1000)
    assert total["stages"]["sample"]["co2_kg"] == pytest.approx(0.5 * grams_per_kwh / 1000)


def test_energy_that_was_not_read_everywhere_is_not_summed():
    unread = StageCost(wall_s=1.0, device_hours=0.1, energy_source="none: this machine has no RAPL counter")
    total = summed({"train": TRAINING, "other": unread}, CostConfig())

    assert total["energy_kwh"] is None and total["co2_kg"] is None
    assert total["stages"]["other"]["co2_kg"] is None
    assert total["stages"]["train"]["co2_kg"] > 0


def test_an_arm_without_stages_costs_nothing():
    total = summed({}, CostConfig())

    assert (total["wall_s"], total["flops"], total["peak_memory_gib"]) == (0, 0, 0)
    assert total["mfu"] is None and total["energy_kwh"] is None


def test_projected_hours_are_flops_over_the_assumed_rate():
    hours = project(3.6e18, "a100_sxm", mfu=0.5)

    assert hours["gpu_hours"] == pytest.approx(3.6e18 / (312e12 * 0.5) / 3600)
    assert hours["projected"] is True
    assert (hours["assumed_mfu"], hours["peak_bf16_tflops"]) == (0.5, 312.0)
    assert "datasheet" in hours["peak_source"]


def test_a_run_is_projected_to_the_accelerators_asked_for():
    total = summed({"train": TRAINING}, CostConfig(project_to=("l4", "mi300x"), projected_mfu=0.2))

    assert total["projected"] == [project(6e15, "l4", 0.2), project(6e15, "mi300x", 0.2)]


def test_every_accelerator_names_its_source():
    assert all(chip.source and 50 < chip.bf16_tflops < 3000 for chip in ACCELERATORS.values())


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("cost.busy_above", {"busy_above": 1.5}),
        ("cost.country", {"country": "Germany"}),
        ("cost.project_to", {"project_to": ("tpu",)}),
        ("cost.projected_mfu", {"projected_mfu": 0.0}),
        ("cost.projected_mfu", {"projected_mfu": 1.5}),
    ],
)
def test_settings_that_cannot_be_are_refused(key: str, settings: dict[str, Any]):
    with pytest.raises(ConfigError, match=f"^{key} must be"):
        CostConfig(**settings)


def test_a_list_of_accelerators_from_yaml_is_hashable():
    settings: Any = ["l4"]

    assert hash(CostConfig(project_to=settings)) == hash(CostConfig(project_to=("l4",)))


def test_judges_are_summed():
    usage = {"a": {"requests": 3, "prompt_tokens": 700}, "b": {"requests": 4, "prompt_tokens": 100}}

    assert judge_cost(usage) == {"requests": 7, "prompt_tokens": 800, "judges": usage}
    assert judge_cost({}) == {"judges": {}}
