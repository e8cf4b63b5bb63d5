"""Activation checkpointing (Chen et al. 2016): a transformer block keeps its input and runs again in the backward pass.

A third more computing for a fraction of the memory; losses and gradients are the same.
"""

import types
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from bench.errors import ConfigError


def recompute(network: PreTrainedModel) -> None:
    """Let every block of the network do so, until `keep` is called.

    Raises:
        ConfigError: the architecture does not say what its blocks are.
    """
    blocks = blocks_of(network)
    if not blocks:
        raise ConfigError(
            f"{type(network).__name__} names no blocks that could run again; set activation_checkpointing=false"
        )
    for block in blocks:
        block.forward = types.MethodType(_again, block)


def keep(network: PreTrainedModel) -> None:
    """Undo `recompute`."""
    for block in blocks_of(network):
        vars(block).pop("forward", None)


def blocks_of(network: PreTrainedModel) -> list[nn.Module]:
    """The transformer blocks, as the architecture names them."""
    kinds = set(network._no_split_modules or ())
    # What is sharded has a class of its own, made of the block's.
    return [m for m in network.modules() if kinds & {kind.__name__ for kind in type(m).__mro__}]


def _again(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    plain = type(block).forward  # of the class: a deep copy must not run the original's weights
    if not torch.is_grad_enabled():
        return plain(block, *args, **kwargs)
    return checkpoint(plain, block, *args, use_reentrant=False, **kwargs)
