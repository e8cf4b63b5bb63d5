"""Where a training run happens and who watches it, and what a trainer that samples may spend."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bench.train.health.check import Checklist
from bench.train.health.settings import DEFAULT_HEALTH, HealthSettings
from bench.train.health.watch import Watch
from bench.train.log import TrainingLog
from bench.train.samples import Samples
from bench.train.settings.common import CHECKPOINT_EVERY_S


@dataclass(frozen=True)
class TrainingContext:
    """What every trainer is told besides its method's settings.

    Attributes:
        stage: the name under which the run reports.
        seed: of everything random in it.
        bf16: compute in bf16 weights over fp32 master copies, or, where the trainer cannot, under autocast.
        scratch: where it keeps its state; a run found there is continued.
        checkpoint_every_s: seconds between checkpoints, which take at most 2 % of the time. 0: after every step.
        on_rows: called with the whole training log whenever it has grown.
        samples: takes samples of the policy on the way, where such are wanted.
    """

    stage: str
    seed: int
    device: torch.device
    bf16: bool
    scratch: Path
    checkpoint_every_s: float = CHECKPOINT_EVERY_S
    health: HealthSettings = DEFAULT_HEALTH
    on_rows: Callable[[TrainingLog], None] = lambda rows: None
    samples: Samples | None = None

    def sample(self, step: int, steps: int, policy: PreTrainedModel) -> float:
        """Sample the policy as it is after `step` of `steps`, if that is wanted; the seconds that it took."""
        return 0.0 if self.samples is None else self.samples.take(step, steps, policy)

    def watch(self, checklist: Checklist) -> Watch:
        return Watch(self.stage, checklist, self.health)


@dataclass(frozen=True)
class RolloutBudget:
    """How many completions a trainer may sample, and how: plain sampling at `temperature`, which is above 0.

    Attributes:
        at_once: completions that are sampled together at most, None for a whole batch; what is drawn is the same.
    """

    temperature: float
    episodes: int
    max_new_tokens: int
    at_once: int | None = None
