"""Settings of RLOO."""

from dataclasses import dataclass, replace

from bench.train.settings.common import OptimizerSettings, RolledOutOn, require_rolled_out_on
from bench.validation import require


@dataclass(frozen=True)
class RLOOSettings(OptimizerSettings):
    """RLOO; `batch_size` is the completions of one update, `num_generations` of them for each prompt."""

    prompts: RolledOutOn = "pairs"
    beta: float = 0.05
    temperature: float = 0.7
    num_generations: int = 4
    num_iterations: int = 1
    missing_eos_score: float | None = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_rolled_out_on("rloo", self.prompts)
        require(
            self.batch_size % self.micro_batch_size == 0,
            "rloo.micro_batch_size",
            self.micro_batch_size,
            f"must divide rloo.batch_size ({self.batch_size})",
        )
        require(self.num_iterations >= 1, "rloo.num_iterations", self.num_iterations, "must be at least 1")
        require(self.beta >= 0, "rloo.beta", self.beta, "must be 0 (no KL pull) or above")
        require(
            self.beta == 0 or not self.lora_4bit,
            "rloo.lora_4bit",
            self.lora_4bit,
            "must be false where rloo.beta is above 0: TRL's reference is whole, and what 4 bits round would be KL",
        )
        require(
            self.temperature > 0,
            "rloo.temperature",
            self.temperature,
            "must be above 0, or samples agree",
        )
        require(
            self.num_generations >= 2 and self.batch_size % self.num_generations == 0,
            "rloo.num_generations",
            self.num_generations,
            f"must be at least 2 and divide rloo.batch_size ({self.batch_size})",
        )


def within_budget(settings: RLOOSettings, episodes: int, processes: int) -> RLOOSettings:
    """The settings with a batch that the budget holds: fewer episodes than a batch are one update of that many.

    Raises:
        ConfigError: such a batch does not hold whole groups on each process.
    """
    batch = min(settings.batch_size, episodes)
    require(
        batch % (settings.num_generations * processes) == 0,
        "rloo.num_generations",
        settings.num_generations,
        f"x {processes} processes must divide an update's {batch} episodes",
    )
    return replace(settings, batch_size=batch, micro_batch_size=min(settings.micro_batch_size, batch // processes))
