"""Settings of iterated DPO."""

from dataclasses import dataclass

from bench.validation import require


@dataclass(frozen=True)
class IteratedDPOSettings:
    """How its pairs are made; what is learnt from them is DPO's (`DPOSettings`)."""

    rounds: int = 3
    samples_per_post: int = 4
    temperature: float = 0.7
    epochs: float = 1.0

    def __post_init__(self) -> None:
        group = "iterated_dpo"
        require(self.rounds >= 1, f"{group}.rounds", self.rounds, "must be at least 1")
        require(self.samples_per_post >= 2, f"{group}.samples_per_post", self.samples_per_post, "must be at least 2")
        require(self.temperature > 0, f"{group}.temperature", self.temperature, "must be above 0, or samples agree")
        require(self.epochs > 0, f"{group}.epochs", self.epochs, "must be above 0")


def rounds_within(settings: IteratedDPOSettings, episodes: int) -> tuple[int, int]:
    """Rounds, and posts of each, of so many completions in all; fewer rounds where they are too few for one post each.

    Raises:
        ConfigError: they are too few for one post.
    """
    posts = episodes // settings.samples_per_post
    require(
        posts >= 1,
        "budget.ppo_episodes",
        episodes,
        f"must be at least iterated_dpo.samples_per_post ({settings.samples_per_post})",
    )
    rounds = min(settings.rounds, posts)
    return rounds, posts // rounds
