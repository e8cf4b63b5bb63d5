"""The processes of one run: which of them writes, and where all of them meet. One process needs none of it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from bench.errors import ConfigError

T = TypeVar("T")

# Rank 0 evaluates and asks judges while the others wait: not a hang, however long it takes.
_PATIENCE = timedelta(days=7)
_OF_LAUNCHERS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def connect(device: torch.device) -> None:
    """Join the processes that `accelerate launch` started; does nothing where there is one."""
    for name in _OF_LAUNCHERS:
        if not os.environ.get(name, "0").strip():  # set to nothing, as shells leave it, is not set
            del os.environ[name]
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdigit():
        raise ConfigError(f"the environment's WORLD_SIZE must be a number of processes, got {said!r}; unset it")
    if int(said) > 1:
        PartialState(cpu=device.type == "cpu", timeout=_PATIENCE)


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def shard_weights() -> bool:
    """Whether the launcher was told that each process holds a share of the weights."""
    return _uses("FSDP") or uses_deepspeed()


def uses_deepspeed() -> bool:
    return _uses("DEEPSPEED")


def _uses(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"


def is_main() -> bool:
    """Whether this is rank 0, which does all writing."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 runs the block before the others do: what it fetches into a cache is there for them."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def wait() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def own(rows: Sequence[T]) -> Sequence[T]:
    """This process's share of the rows: every `count`-th, so that shares of sorted rows are alike."""
    return rows[dist.get_rank() :: count()] if count() > 1 else rows


def gather(value: T) -> list[T]:
    """Every process's `value`, in every process, rank 0's first."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, value)
    return found


def put_together(share: Sequence[T]) -> list[T]:
    """The rows, in every process, of which each brings what it made of its `own`."""
    shares = gather(list(share))
    rows: list[Any] = [None] * sum(map(len, shares))
    for rank, part in enumerate(shares):
        rows[rank :: len(shares)] = part
    return rows


def from_main(value: Any) -> Any:
    """Rank 0's `value`, in every process."""
    if count() == 1:
        return value
    return broadcast_object_list([value], from_process=0)[0]
