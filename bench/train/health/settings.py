"""Where a training run counts as unwell."""

from dataclasses import dataclass

from bench.validation import require


@dataclass(frozen=True)
class HealthSettings:
    """Thresholds of the checks. They decide what is said, never what is trained: a stage's result does not depend on
    them."""

    window: int = 20
    updates: int = 3
    patience: int = 50
    standard_errors: float = 4.0
    grad_spike: float = 10.0
    max_loss_share: float = 1.25
    kl_negative: float = 0.1
    kl_collapse: float = 50.0
    ratio_max: float = 20.0
    approx_kl: float = 0.1
    min_entropy_share: float = 0.2
    min_length_share: float = 0.5
    max_length_share: float = 2.0
    min_finished: float = 0.5
    max_finished_drop: float = 0.2
    min_score_std: float = 0.01
    unexplained_updates: int = 5
    overfit_margin: float = 5.0
    overfit_accuracy: float = 0.995

    def __post_init__(self) -> None:
        for name in ("window", "updates", "unexplained_updates"):
            require(getattr(self, name) >= 1, f"health.{name}", getattr(self, name), "must be at least 1")
        require(self.patience >= 2, "health.patience", self.patience, "must be at least 2")
        for name in ("grad_spike", "max_loss_share", "ratio_max", "max_length_share"):
            require(getattr(self, name) > 1, f"health.{name}", getattr(self, name), "must be above 1")
        for name in ("standard_errors", "kl_negative", "kl_collapse", "approx_kl", "min_score_std", "overfit_margin"):
            require(getattr(self, name) > 0, f"health.{name}", getattr(self, name), "must be above 0")
        for name in ("min_entropy_share", "min_length_share", "min_finished", "max_finished_drop", "overfit_accuracy"):
            require(0 < getattr(self, name) < 1, f"health.{name}", getattr(self, name), "must be in (0, 1)")


DEFAULT_HEALTH = HealthSettings()
