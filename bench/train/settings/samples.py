"""How a policy is watched while it is trained."""

from dataclasses import dataclass

from bench.validation import require

MOMENTS = "moments"
"""Where weights are kept that were sampled, in the folder of the stage: `moments/step-<N>/`. The last step's are the
stage's own."""


@dataclass(frozen=True)
class SamplesSettings:
    """Samples of held-out prompts in training: at `points` moments, evenly over the steps, and before the first one.

    `keep_best` names the judge by whom each policy is the best of those moments, the first one apart; None: the last.
    The temperature stands here and not in `sampling`, so that another one for the evaluation trains nothing again.
    """

    points: int = 0
    prompts: int = 64
    temperature: float = 0.7
    keep_best: str | None = None

    def __post_init__(self) -> None:
        group = "samples_in_training"
        require(self.points >= 0, f"{group}.points", self.points, "must be at least 1, or 0 for none")
        require(self.prompts >= 2, f"{group}.prompts", self.prompts, "must be at least 2 (one has no interval)")
        require(self.temperature > 0, f"{group}.temperature", self.temperature, "must be above 0 (greedy has no KL)")
        choice = self.keep_best is None or self.points >= 2
        require(choice, f"{group}.keep_best", self.keep_best, f"needs {group}.points=2 or more to choose from")

    def steps(self, total: int) -> frozenset[int]:
        """After which of `total` steps it is time; 0 is before the first."""
        if self.points == 0:
            return frozenset()
        return frozenset(round(point * total / self.points) for point in range(self.points + 1))
