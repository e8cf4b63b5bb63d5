"""What a plan is made for: the device at hand, or an accelerator that is not here."""

from dataclasses import dataclass

import psutil
import torch

from bench.cost.projection import ACCELERATORS
from bench.errors import ConfigError
from bench.forecast.speeds import Speeds
from bench.forecast.work import Work

MEMORY_GIB = {"a100_sxm": 80, "h100_sxm": 80, "h100_pcie": 80, "l4": 24, "rtx_4090": 24, "mi300x": 192}
"""Of `bench.cost.projection.ACCELERATORS`, from the same data sheets; the A100 also comes with 40."""
_USABLE = 0.95  # of a device's memory: the rest is the driver's, the context's, and lost between blocks


@dataclass(frozen=True)
class Hardware:
    """A device: its memory in bytes, how long it takes for a stage, and in words what that rests on."""

    name: str
    capacity: float
    basis: str
    speeds: Speeds | None = None
    flops_per_s: float = 0.0

    def seconds(self, work: Work) -> float:
        return self.speeds.seconds(work) if self.speeds is not None else work.flops / self.flops_per_s


def here(device: torch.device, speeds: Speeds) -> Hardware:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return Hardware(name, _USABLE * torch.cuda.get_device_properties(device).total_memory, speeds.source, speeds)
    threads = torch.get_num_threads()
    name = f"this machine ({threads} thread{'s' if threads > 1 else ''})"
    return Hardware(name, _USABLE * psutil.virtual_memory().total, speeds.source, speeds)


def elsewhere(name: str, mfu: float) -> Hardware:
    """An accelerator by its name, or the beginning of it: h100 is the first that begins so.

    Raises:
        ConfigError: there is none.
    """
    known = [accelerator for accelerator in ACCELERATORS if accelerator.startswith(name)]
    if not known:
        raise ConfigError(f"plan.hardware must be here or among {', '.join(ACCELERATORS)}, got {name!r}")
    exact = name if name in known else next((n for n in known if n.endswith("_sxm")), known[0])
    chip = ACCELERATORS[exact]
    basis = (
        f"assumed: {mfu:.0%} (cost.projected_mfu) of its bf16 peak of {chip.bf16_tflops:g} TFLOP/s ({chip.source});"
        " sampling reaches less, so that stages that sample are lower bounds"
    )
    return Hardware(exact, _USABLE * MEMORY_GIB[exact] * 2**30, basis, flops_per_s=chip.bf16_tflops * 1e12 * mfu)
