"""How fast a machine does each kind of work, and where such numbers are kept."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from bench.cost.flops import gemm_peak
from bench.files import read_json, write_json
from bench.forecast.work import KINDS, Kind, Work
from bench.provenance import device_info, package_versions, stable_hash

if TYPE_CHECKING:
    from bench.config import RunConfig

ASSUMED_SHARE = 0.4
"""Of the fastest matrix products, where nothing was measured (small models on a CPU: 0.35 to 0.6, `bench.perf`)."""
_ASSUMED_STEP_S = 1e-3  # a decoding step of a small model, whatever its rows
_ADAMW_BYTES = 28  # a parameter's, read and written in a step of AdamW in fp32: 7 numbers
_BYTES_PER_S = 1e10  # of memory, a core's


@dataclass(frozen=True)
class Speeds:
    """Seconds of one device that does nothing else.

    Attributes:
        flops_per_s: by kind of work.
        decode_step_s, decode_row_s: of a forward pass that samples: for itself, and for each row in it.
        stepped_s: of the optimizer, for each parameter that it moves.
        read_s: to tokenise a row.
        setup_s: of a stage besides: models read and written, trainers made.
        process_gib: resident memory of a process that has imported everything and holds no model.
        source: in words, where these numbers are from.
    """

    flops_per_s: dict[Kind, float]
    decode_step_s: float
    decode_row_s: float
    stepped_s: float
    read_s: float
    setup_s: float
    process_gib: float
    source: str

    def seconds(self, work: Work) -> float:
        """Of a stage."""
        return (
            sum(getattr(work, kind) / self.flops_per_s[kind] for kind in KINDS)
            + work.decode_steps * self.decode_step_s
            + work.decode_rows * self.decode_row_s
            + work.stepped * self.stepped_s
            + work.rows_read * self.read_s
            + self.setup_s
        )


def assumed(device: torch.device, bf16: bool, decode_row_flops: float) -> Speeds:
    """From the fastest matrix products alone, which take a third of a second to find."""
    peak = gemm_peak(device, torch.bfloat16 if bf16 else torch.float32)
    rate = ASSUMED_SHARE * peak
    return Speeds(
        flops_per_s=dict.fromkeys(KINDS, rate),
        decode_step_s=_ASSUMED_STEP_S,
        decode_row_s=decode_row_flops / rate,
        stepped_s=_ADAMW_BYTES / _BYTES_PER_S,
        read_s=2e-4,
        setup_s=1.0,
        process_gib=psutil.Process().memory_info().rss / 2**30 if device.type == "cpu" else 0.0,
        source=f"not measured: {ASSUMED_SHARE:.0%} of the {peak / 1e9:,.0f} GFLOP/s of this machine's matrix products",
    )


def place(config: "RunConfig", device: torch.device, bf16: bool, cache_dir: Path) -> Path:
    """Where the measured speeds of this machine, this model and micro-batches of this size are kept."""
    versions = package_versions()
    packages = {name: versions.get(name) for name in ("torch", "transformers", "trl")}
    model = {name: value for name, value in asdict(config.model).items() if name not in ("device", "precision")}
    limits = [config.budget.max_prompt_tokens, config.budget.max_completion_tokens, config.sampling.batch_size]
    groups = [getattr(config, group) for group in ("sft", "reward", "dpo")]
    batches = [[group.batch_size, group.micro_batch_size, group.micro_batch_tokens] for group in groups]
    key = stable_hash([KINDS, device_info(device), bf16, packages, model, limits, batches])[:16]
    return cache_dir / "forecast" / f"speeds-{key}.json"


def kept(path: Path) -> Speeds | None:
    return Speeds(**read_json(path)) if path.is_file() else None


def keep(speeds: Speeds, path: Path) -> None:
    write_json(path, asdict(speeds))
