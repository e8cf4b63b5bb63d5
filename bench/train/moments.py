"""The policy's weights on the way through a training, kept so that one of them can be chosen in the end.

What is kept is what was sampled: whole weights in the type in which they run, or the adapters alone where these are
what is trained.
"""

import os
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bench.files import sync
from bench.models.loading import load_policy
from bench.train.lora import has_adapters, merge_adapters, save_adapters
from bench.train.settings.samples import MOMENTS

_ADAPTERS = "adapters.safetensors"


def keep_moment(policy: PreTrainedModel, folder: Path, step: int) -> None:
    """Write the weights after `step` below `folder`, whole or not at all."""
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if has_adapters(policy):
        save_adapters(policy, partial / _ADAPTERS)
    else:
        policy.save_pretrained(partial, safe_serialization=True)
    for path in partial.iterdir():
        sync(path)
    shutil.rmtree(_at(folder, step), ignore_errors=True)  # left by a run that was killed after its last checkpoint
    os.rename(partial, _at(folder, step))


def load_moment(trained: Path, step: int, start: Path) -> PreTrainedModel:
    """The policy as it was kept after `step` of the training in folder `trained`, plain, in fp32 on the CPU.

    Args:
        start: folder of the model on which adapters were put.
    """
    folder = _at(trained / MOMENTS, step)
    if (folder / _ADAPTERS).exists():
        return merge_adapters(load_policy(start, torch.device("cpu")), folder / _ADAPTERS)
    return load_policy(folder, torch.device("cpu"))


def _at(folder: Path, step: int) -> Path:
    return folder / f"step-{step}"
