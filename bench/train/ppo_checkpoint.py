"""A PPO run in one file, replaced whole: killed at any moment, the run goes on from the last one.

safetensors for what is a tensor, JSON in its header for the rest; nothing is unpickled.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from bench import processes
from bench.errors import RunFolderError
from bench.train.master_weights import MasterWeights
from bench.train.shards import whole_tensor

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

    What is frozen is not in it. What lies in shares is put together, so that a run may go on in another number of
    processes, or in one; every process must ask, and rank 0 alone gets it, in main memory.
    """
    tensors: dict[str, Tensor] = {}
    groups: dict[str, Any] = {}
    for name, network in networks.items():
        optimizer = optimizers[name]
        has_masters = isinstance(optimizer, MasterWeights)
        weights = optimizer.masters if has_masters else [p for _, p in _trained(network)]
        tensors |= {f"{name}.{key}": _whole(w) for (key, _), w in zip(_trained(network), weights, strict=True)}
        state = optimizer.state_dict()["inner"] if has_masters else optimizer.state_dict()
        groups[name] = state["param_groups"]
        for index, entries in state["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{key}": _whole(value) for key, value in entries.items()}
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
        trained = [parameter for _, parameter in _trained(network)]
        for index, of_parameter in entries.items():
            entries[index] = {
                key: _like(trained[index], value) if value.dim() else value for key, value in of_parameter.items()
            }
        inner = {"state": entries, "param_groups": groups[name]}
        weights = [_like(parameter, tensors[f"{name}.{key}"]) for key, parameter in _trained(network)]
        if isinstance(optimizer, MasterWeights):
            optimizer.load_state_dict({"inner": inner, "masters": weights})
            continue
        optimizer.load_state_dict(inner)
        for (_, parameter), weight in zip(_trained(network), weights, strict=True):
            parameter.copy_(weight)


def _whole(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, DTensor):
        return tensor
    whole = whole_tensor(tensor)
    return whole.cpu() if processes.is_main() else whole[:0]


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """The tensor, in shares where the parameter lies in shares."""
    if not isinstance(parameter, DTensor):
        return tensor
    mesh = parameter.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, parameter.placements)


def _trained(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(key, parameter) for key, parameter in network.named_parameters() if parameter.requires_grad]


class Saver:
    """Saves after `every_s` seconds, and less often where saving would take more than 2 % of the time.

    With 0 it saves after every update.
    """

    def __init__(self, every_s: float) -> None:
        self.every_s = self._interval = every_s
        self._last = time.perf_counter()

    def is_due(self) -> bool:
        """Ask after each update."""
        return time.perf_counter() - self._last >= self._interval

    def save(self, folder: Path, state: State) -> None:
        """On rank 0; the others take note of the time."""
        begin = time.perf_counter()
        if processes.is_main():
            save(folder, state)
        self._last = time.perf_counter()
        if self.every_s:
            self._interval = max(self.every_s, (self._last - begin) / _SAVING_SHARE)
