"""Warm-up that leaves a short stage something to learn with."""

import math

import torch
from transformers import Trainer

_MOST = 0.2  # of a stage's steps


def warmup_steps(asked: float, steps: int) -> int:
    """Steps over which the learning rate rises, of a stage of `steps`: what was asked for, cut to a fifth of them.

    A rate that rises from 0 takes the first step at 0, so that an uncut warm-up leaves a stage of one or two steps
    where it began.

    Args:
        asked: steps; below 1 a share of all of them, as in transformers.
    """
    wanted = int(asked) if asked >= 1 else math.ceil(asked * steps)
    return min(wanted, int(_MOST * steps))


class CutWarmup(Trainer):
    """Mixin for trainers of transformers, in front of them."""

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        self.args.warmup_steps = warmup_steps(self.args.warmup_steps, num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)
