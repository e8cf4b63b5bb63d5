"""Stage costs put together: of an arm, of a run, of the judges."""

from collections.abc import Mapping
from typing import Any

from bench.cost.config import CostConfig
from bench.cost.energy import carbon_intensity
from bench.cost.meter import StageCost
from bench.cost.projection import project

_SUMMED = ("wall_s", "cpu_s", "device_hours", "gpu_hours", "flops", "tokens_trained", "tokens_generated")
_SUMMED += ("apart_wall_s", "apart_device_hours", "apart_flops")
_HIGHEST = ("peak_memory_gib", "peak_rss_gib", "models_resident")


def summed(costs: Mapping[str, StageCost], config: CostConfig) -> dict[str, Any]:
    """`stages`, their sums and maxima, and what follows from them: `busy`, `mfu`, `energy_kwh`, `co2_kg`, `projected`.

    `busy` names the stages during which others took more than `config.busy_above` of the processors: their wall time is
    as much the machine's as theirs. `mfu` is the stages' mean, weighted by device-hours. Energy and CO2 are None unless
    every stage's was measured.
    """
    stages: dict[str, dict[str, Any]] = {
        name: cost.to_dict() | _co2(cost.energy_kwh, config) for name, cost in costs.items()
    }
    rows = list(stages.values())
    measured = [row["energy_kwh"] for row in rows]
    energy = None if not rows or None in measured else sum(measured)
    hours = sum(row["device_hours"] for row in rows)
    at_peak = sum((row["mfu"] or 0.0) * row["device_hours"] for row in rows)
    total: dict[str, Any] = {
        "stages": stages,
        "busy": [name for name, cost in costs.items() if _is_busy(cost, config)],
        **{field: sum(row[field] for row in rows) for field in _SUMMED},
        **{field: max((row[field] for row in rows), default=0) for field in _HIGHEST},
        "mfu": at_peak / hours if hours else None,
        "energy_kwh": energy,
        **_co2(energy, config),
    }
    return total | {"projected": [project(total["flops"], name, config.projected_mfu) for name in config.project_to]}


def _is_busy(cost: StageCost, config: CostConfig) -> bool:
    """On a GPU the processors' load says little of the wall time."""
    return cost.gpu_hours == 0 and cost.other_load is not None and cost.other_load > config.busy_above


def _co2(energy_kwh: float | None, config: CostConfig) -> dict[str, float | None]:
    """Kilograms of CO2 equivalent of a measured energy."""
    if energy_kwh is None:
        return {"co2_kg": None}
    intensity = carbon_intensity(config.country)
    assert intensity is not None  # CostConfig refuses a country without one
    return {"co2_kg": energy_kwh * intensity / 1000}


def judge_cost(usage: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """What judging cost: `judges.<name>`, and the sum over them of each count (requests, prompt tokens, ...)."""
    counts = sorted({count for used in usage.values() for count in used})
    return {
        **{count: sum(used.get(count, 0) for used in usage.values()) for count in counts},
        "judges": {name: dict(used) for name, used in usage.items()},
    }
