"""A PPO run in one file, replaced whole: killed at any moment, the run goes on from the last one.

safetensors for what is a tensor, JSON in its header for the rest; nothing is unpickled.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.errors import RunFolderError
from bench.train.master_weights import MasterWeights

_FILE = "ppo.safetensors"
_SAVING_SHARE = 0.02  # of the run's time at most goes into checkpoints

State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and everything else as JSON."""


def save(folder: Path, state: State) -> None:
    """Write the state to a temporary file, sync it, and rename it over the last one."""
    tensors, rest = state
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{_FILE}"
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, temporary, {"state": json.dumps(rest)})
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, folder / _FILE)


def load(folder: Path, run: str) -> State | None:
    """The last state saved in the folder, tensors on the CPU; None where there is none.

    Args:
        run: what a state must carry under "run": it says which run the state is of.

    Raises:
        RunFolderError: the checkpoint is of another run.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        rest = json.loads(file.metadata()["state"])
        if rest["run"] != run:
            raise RunFolderError(
                f"{path} is the checkpoint of a PPO run with other settings; remove it, or restore them"
            )
        return {name: file.get_tensor(name) for name in file.keys()}, rest  # noqa: SIM118 (it is no dict)


def capture(networks: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]) -> State:
    """Trained parameters (their fp32 masters where there are any) and optimizer states, by reference.

    What is frozen is not in it.
    """
    tensors: dict[str, Tensor] = {}
    groups: dict[str, Any] = {}
    for name, network in networks.items():
        optimizer = optimizers[name]
        has_masters = isinstance(optimizer, MasterWeights)
        weights = optimizer.masters if has_masters else [p for _, p in _trained(network)]
        tensors |= {f"{name}.{key}": w for (key, _), w in zip(_trained(network), weights, strict=True)}
        state = optimizer.state_dict()["inner"] if has_masters else optimizer.state_dict()
        groups[name] = state["param_groups"]
        for index, entries in state["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{key}": value for key, value in entries.items()}
    return tensors, groups


@torch.no_grad()
def restore(state: State, networks: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
    """Undo `capture`: the networks and optimizers are as they were."""
    tensors, groups = state
    for name, network in networks.items():
        optimizer = optimizers[name]
        entries: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith(f"optimizer.{name}."):
                index, _, entry = key.removeprefix(f"optimizer.{name}.").partition(".")
                entries.setdefault(int(index), {})[entry] = tensor
        inner = {"state": entries, "param_groups": groups[name]}
        weights = [tensors[f"{name}.{key}"] for key, _ in _trained(network)]
        if isinstance(optimizer, MasterWeights):
            optimizer.load_state_dict({"inner": inner, "masters": weights})
            continue
        optimizer.load_state_dict(inner)
        for (_, parameter), weight in zip(_trained(network), weights, strict=True):
            parameter.copy_(weight)


def _trained(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(key, parameter) for key, parameter in network.named_parameters() if parameter.requires_grad]


class Saver:
    """Saves after `every_s` seconds, and less often where saving would take more than 2 % of the time.

    With 0 it saves after every update.
    """

    def __init__(self, every_s: float) -> None:
        self.every_s = self._interval = every_s
        self._last = time.perf_counter()

    def save_if_due(self, folder: Path, state: Callable[[], State]) -> None:
        """Call after each update."""
        begin = time.perf_counter()
        if begin - self._last < self._interval:
            return
        save(folder, state())
        self._last = time.perf_counter()
        if self.every_s:
            self._interval = max(self.every_s, (self._last - begin) / _SAVING_SHARE)
