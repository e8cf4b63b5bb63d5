"""What watches the training of a reward model."""

import math

from bench.train.health.check import GRAD_SPIKE, Checklist, not_finite
from bench.train.health.pairwise import pairwise

REWARD = Checklist(
    "reward",
    (
        not_finite("loss", "grad_norm", "margin"),
        GRAD_SPIKE,
        *pairwise("accuracy", lambda rows: math.log(2), "log 2, a coin's"),
    ),
)
