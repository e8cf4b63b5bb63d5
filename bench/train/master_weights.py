"""bf16 weights with an fp32 master copy in the optimizer (Micikevicius et al. 2018, section 3.1).

Forward and backward read bf16 weights without a cast, as autocast would make at every use; updates smaller than bf16's
8 bits can hold are kept in the fp32 copy and are not lost.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MakeOptimizer = Callable[[list[Tensor]], Optimizer]


class MasterWeights(Optimizer):
    """Runs the optimizer that `make` gives on fp32 copies of `parameters`, and writes them back rounded.

    Its parameter groups are those of the inner optimizer with the low-precision parameters in place of the copies, so
    schedulers and gradient clipping act as always.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], make: MakeOptimizer) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.masters = [p.detach().float().clone() for p in self.parameters]
        self.inner = make(self.masters)
        (group,) = self.inner.param_groups
        options = {name: value for name, value in group.items() if name != "params"}
        super().__init__([{"params": self.parameters, **options}], {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        ours, inner = self.param_groups[0], self.inner.param_groups[0]
        inner.update({name: value for name, value in ours.items() if name != "params"})  # the scheduler's rate
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
        self.inner.step()
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = None
            parameter.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        group = {name: value for name, value in self.param_groups[0].items() if name != "params"}
        return {"inner": self.inner.state_dict(), "masters": self.masters, "group": group}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups[0].update(state_dict["group"])
        for master, parameter, saved in zip(self.masters, self.parameters, state_dict["masters"], strict=True):
            master.copy_(saved)
            parameter.copy_(master)

    @torch.no_grad()
    def restore(self) -> None:
        """Give every parameter its fp32 master: what training learned, to the last digit, and what is saved."""
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            parameter.data = master
