"""Several processes that train one model on one batch, as `accelerate launch` starts them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from bench import processes


@dataclass(frozen=True)
class Ranks:
    """This process's place, `index`, among `count`. Each method is called by all of them, in the same order.

    Every process knows the whole batch and works on its own rows; the sums over the processes are what one process
    alone would have.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def current(cls, device: torch.device) -> "Ranks":
        """The processes of the launcher that started this one; without a launcher there is one."""
        processes.connect(device)
        return cls(distributed.get_rank() if processes.count() > 1 else 0, processes.count())

    def own(self, rows: Int[Tensor, " N"]) -> Int[Tensor, " n"]:
        """This process's share of the rows: every `count`-th, so that shares of sorted rows are alike."""
        return rows[self.index :: self.count]

    def gather(
        self, part: Shaped[Tensor, "n ..."], rows: Int[Tensor, " n"], total: int, fill: float = 0
    ) -> Shaped[Tensor, "{total} ..."]:
        """The batch (total, ...) on every process, of which this one has `part` at `rows`.

        Parts may differ in their second dimension: the narrower ones are filled up with `fill`.
        """
        if part.dim() > 1 and self.count > 1:
            widest = torch.tensor(part.size(1), device=part.device)
            distributed.all_reduce(widest, distributed.ReduceOp.MAX)
            room = part.new_full((len(part), int(widest) - part.size(1), *part.shape[2:]), fill)
            part = torch.cat([part, room], dim=1)
        summed = part.int() if part.dtype is torch.bool else part  # gloo does not add bools
        whole = summed.new_zeros(total, *part.shape[1:])
        whole[rows] = summed
        if self.count > 1:
            distributed.all_reduce(whole)  # exact: the others have zeros there
        return whole.to(part.dtype)

    def reduce(
        self, numbers: Mapping[str, float], device: torch.device, how: Literal["sum", "max"] = "sum"
    ) -> dict[str, float]:
        """The sums (or largest) of the processes' numbers."""
        if self.count == 1:
            return dict(numbers)
        # In fp64 where the device has it: these are sums of Python floats.
        values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)
        distributed.all_reduce(values, distributed.ReduceOp.SUM if how == "sum" else distributed.ReduceOp.MAX)
        return dict(zip(numbers, values.tolist(), strict=True))

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each parameter's gradient by the sum over the processes; one that has none counts as 0."""
        if self.count == 1:
            return
        for parameter in parameters:
            if isinstance(parameter, DTensor):  # of which this process has a share, whose gradient is summed already
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter, dtype=parameter.grad_dtype)
            distributed.all_reduce(parameter.grad)
