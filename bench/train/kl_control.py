"""The strength of the pull to the reference policy: fixed, or steered towards a target KL."""

from dataclasses import dataclass


@dataclass
class KLController:
    """beta as it changes: fixed without a target, else the proportional controller of Ziegler et al. 2019 (Sec. 2.2).

    Attributes:
        beta: the current coefficient of the KL.
        target: KL(policy || reference policy) to reach, nats per completion; None keeps beta.
        horizon: episodes over which an error at the clip of 20 % would change beta by 20 %.
    """

    beta: float
    target: float | None = None
    horizon: int = 10_000

    def update(self, kl_ref: float, episodes: int) -> None:
        """Raise beta where a batch's mean KL (nats per completion) lies above the target, lower it where below."""
        if self.target is None:
            return
        error = max(-0.2, min(0.2, kl_ref / self.target - 1))
        self.beta *= 1 + error * episodes / self.horizon
