"""Where the tests of this room train."""

from pathlib import Path
from typing import Any

import torch

from bench.train.context import TrainingContext


def a_context(scratch: Path, stage: str = "sft", **more: Any) -> TrainingContext:
    """On the CPU, in fp32 and with seed 0 unless the test says otherwise."""
    return TrainingContext(
        **{"seed": 0, "device": torch.device("cpu"), "bf16": False, **more}, stage=stage, scratch=scratch
    )
