"""What the meter cannot measure and has to be told."""

from dataclasses import dataclass

from bench.cost.energy import carbon_intensity
from bench.cost.projection import ACCELERATORS
from bench.validation import require


@dataclass(frozen=True)
class CostConfig:
    """From which load by others on a wall time is marked, where the electricity comes from, and for which hardware
    GPU-hours are projected, at which utilisation."""

    busy_above: float = 0.1
    country: str | None = None
    project_to: tuple[str, ...] = ("a100_sxm", "h100_sxm")
    projected_mfu: float = 0.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "project_to", tuple(self.project_to))  # YAML gives a list, which cannot be hashed
        require(0 <= self.busy_above <= 1, "cost.busy_above", self.busy_above, "must be between 0 and 1")
        known = self.country is None or carbon_intensity(self.country) is not None
        require(known, "cost.country", self.country, "must be an ISO 3166 alpha-3 code (DEU), or null for the world")
        for name in self.project_to:
            require(name in ACCELERATORS, "cost.project_to", name, f"must be among {', '.join(ACCELERATORS)}")
        require(0 < self.projected_mfu <= 1, "cost.projected_mfu", self.projected_mfu, "must be above 0 and at most 1")
