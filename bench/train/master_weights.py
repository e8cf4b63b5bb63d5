"""bf16 weights with an fp32 master copy in the optimizer (Micikevicius et al. 2018, section 3.1).

Forward and backward read bf16 weights without a cast, as autocast would make at every use; updates smaller than bf16's
8 bits can hold are kept in the fp32 copy and are not lost.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class MasterWeights(Optimizer):
    """Runs `inner`, which has taken no step yet, on fp32 copies of its parameters, and writes them back as bf16.

    The parameters become bf16. The parameter groups are those of `inner` with the bf16 parameters in place of the
    copies, so schedulers and gradient clipping act as always.

    Args:
        fp32_gradients: gradients are fp32 too, so that those of many micro-batches add up without bf16's rounding.
            DistributedDataParallel cannot: its buckets have the type of the weights.
    """

    def __init__(self, inner: Optimizer, fp32_gradients: bool = True) -> None:
        self.inner = inner
        groups = [dict(group) for group in inner.param_groups]
        self.parameters: list[Tensor] = [p for group in groups for p in group["params"]]
        for group in inner.param_groups:
            group["params"] = [p.detach().float().clone() for p in group["params"]]
        self.masters: list[Tensor] = [m for group in inner.param_groups for m in group["params"]]
        for parameter in self.parameters:
            parameter.data = parameter.data.bfloat16()
            if fp32_gradients:
                parameter.grad_dtype = torch.float32
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._share_options(self.param_groups, self.inner.param_groups)  # the scheduler's rate
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad, parameter.grad = None if parameter.grad is None else parameter.grad.float(), None
        self.inner.step()
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = None
            parameter.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        self._share_options(self.param_groups, self.inner.param_groups)  # the rate of the step to come
        return {"inner": self.inner.state_dict(), "masters": self.masters}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict["inner"])
        self._share_options(self.inner.param_groups, self.param_groups)
        for master, parameter, saved in zip(self.masters, self.parameters, state_dict["masters"], strict=True):
            master.copy_(saved)
            parameter.copy_(master)

    @torch.no_grad()
    def restore(self) -> None:
        """Give every parameter its fp32 master: what training learned, to the last digit, and what is saved."""
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            parameter.data = master

    @staticmethod
    def _share_options(source: list[dict[str, Any]], target: list[dict[str, Any]]) -> None:
        for ours, theirs in zip(source, target, strict=True):
            theirs.update({name: value for name, value in ours.items() if name != "params"})
