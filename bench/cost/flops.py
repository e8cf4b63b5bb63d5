"""FLOPs counted where matrix products are issued, and the fastest product this device does, to hold them against.

A dispatch mode (`torch.utils.flop_counter.FlopCounterMode`) sees every operator and so costs more than small models do.
Nearly all of a transformer's arithmetic goes through a handful of functions, so those alone are wrapped: below a
microsecond a call, and the same number (the tests hold the two against each other on every method's work).
"""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

Tally = dict[torch.dtype, int]

_PEAK_SECONDS = 0.3  # how long the peak is looked for
_PEAK_SIZE = {"cuda": 8192, "cpu": 1024}  # rows and columns: large enough to be bound by arithmetic


class FlopCounter:
    """Context in which the FLOPs of matrix products and attention are counted; a multiply-add is 2 FLOPs.

    Counted: `F.linear` (every `nn.Linear`), `F.scaled_dot_product_attention`, and the products that are called by name,
    `torch.matmul` (eager attention), `mm`, `addmm` (GPT-2's projections, TRL's chunked kernels). Not counted: what is
    elementwise or a reduction, the optimizer's step, embeddings; products written as `@` or `einsum`, and other
    libraries' own kernels.

    The backward pass is counted when the forward is issued, one product for every operand that needs a gradient, on the
    assumption that a graph that is built is also run. What is recomputed counts as it is executed: the scores in the
    backward of attention (flash), the logits in that of TRL's kernels, the forward of a non-reentrant checkpoint.
    Attention is counted over the full rectangle of queries and keys, causal or not, as is usual (Chowdhery et al. 2022,
    appendix B).

    Contexts nest; an outer one counts what an inner one counts. Threads of one process share it.
    """

    def __init__(self, on_product: Callable[[], None] | None = None) -> None:
        """`on_product` is called whenever a product has been counted."""
        # The dtype that the product ran in, under autocast too.
        self.by_dtype: Tally = defaultdict(int) if on_product is None else _Watched(on_product)
        self._patches = ExitStack()

    @property
    def total(self) -> int:
        return sum(self.by_dtype.values())

    def __enter__(self) -> Self:
        for owner, name, wrap in _WRAPPED:
            self._patches.enter_context(mock.patch.object(owner, name, wrap(self.by_dtype, getattr(owner, name))))
        return self

    def __exit__(self, *exc: object) -> None:
        self._patches.close()


class _Watched(defaultdict[torch.dtype, int]):
    """A tally that says when it has changed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        super().__init__(int)
        self._on_change = on_change

    def __setitem__(self, dtype: torch.dtype, flops: int) -> None:
        super().__setitem__(dtype, flops)
        if flops:  # 0 is what a dtype begins with
            self._on_change()


def _builds_graph(out: Tensor) -> bool:
    """Whether a backward pass will follow. Inside one, a checkpoint recomputes its forward, whose backward is counted
    already."""
    return out.requires_grad and torch._C._current_graph_task_id() == -1


def _linear(tally: Tally, linear: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def counted(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        out = linear(input, weight, bias)
        flops = 2 * input.numel() * weight.size(0)
        if _builds_graph(out):
            flops *= 1 + input.requires_grad + weight.requires_grad
        tally[out.dtype] += flops
        return out

    return counted


def _product(tally: Tally, product: Callable[..., Tensor], left: int) -> Callable[..., Tensor]:
    """For functions whose arguments `left` and `left` + 1 are multiplied."""

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        result = product(*args, **kwargs)
        if len(args) < left + 2:
            return result  # operands given by keyword: nobody does
        a, b = args[left], args[left + 1]
        flops = 2 * result.numel() * a.size(-1)
        if _builds_graph(result):
            flops *= 1 + a.requires_grad + b.requires_grad
        # What is written into `out` or asked for may be wider than what was multiplied; autocast may have narrowed it.
        tally[a.dtype if {"out", "out_dtype"} & kwargs.keys() else result.dtype] += flops
        return result

    return counted


def _attention(tally: Tally, attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def counted(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = attention(query, key, value, *args, **kwargs)
        # query @ key.T and weights @ value; backward: the first again, then a gradient for each of four operands.
        q, v = query.numel(), out.numel()
        products = 4 * q + 3 * v if _builds_graph(out) else q + v
        tally[out.dtype] += 2 * key.size(-2) * products
        return out

    return counted


_WRAPPED: tuple[tuple[Any, str, Callable[[Tally, Any], Any]], ...] = (
    (F, "linear", _linear),
    (F, "scaled_dot_product_attention", _attention),
    (torch, "matmul", partial(_product, left=0)),
    (torch, "mm", partial(_product, left=0)),
    (torch, "addmm", partial(_product, left=1)),
    (torch.Tensor, "addmm_", partial(_product, left=1)),
)


def seconds_at_peak(flops: Tally, device: torch.device) -> float:
    """How long the counted FLOPs would take at the device's measured peak, dtype by dtype."""
    return sum(count / gemm_peak(device, dtype) for dtype, count in flops.items())


@cache
def gemm_peak(device: torch.device, dtype: torch.dtype) -> float:
    """`fastest_product`, measured once per process."""
    return fastest_product(device, dtype)


@torch.no_grad()
def fastest_product(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of repeated square products; takes under two seconds."""
    size = _PEAK_SIZE.get(device.type, 1024)
    # Random numbers: a GPU draws less power on constants, and clocks higher than it ever does in training.
    generator = torch.Generator(device).manual_seed(0)
    factor = torch.randn(size, size, device=device, generator=generator).to(dtype)
    product = torch.empty_like(factor)
    fastest, runs, start = float("inf"), 0, time.perf_counter()
    with torch.autocast(device.type, enabled=False):
        while runs < 3 or time.perf_counter() - start < _PEAK_SECONDS:
            began = time.perf_counter()
            torch.mm(factor, factor, out=product)
            synchronize(device)
            fastest, runs = min(fastest, time.perf_counter() - began), runs + 1
    return 2 * size**3 / fastest


def synchronize(device: torch.device) -> None:
    """Wait for what the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
