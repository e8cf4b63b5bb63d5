"""GPU-hours on hardware that was not used, from FLOPs that were counted and a utilisation that is assumed."""

from typing import Any, NamedTuple


class Accelerator(NamedTuple):
    """`bf16_tflops`: dense (no sparsity) bf16 matrix peak in TFLOP/s, accumulating in fp32."""

    bf16_tflops: float
    source: str


ACCELERATORS = {
    "a100_sxm": Accelerator(312.0, "NVIDIA A100 Tensor Core GPU datasheet"),
    "h100_sxm": Accelerator(989.4, "NVIDIA H100 Tensor Core GPU datasheet, half of its figure with sparsity"),
    "h100_pcie": Accelerator(756.5, "NVIDIA H100 Tensor Core GPU datasheet, half of its figure with sparsity"),
    "l4": Accelerator(121.0, "NVIDIA L4 Tensor Core GPU datasheet, half of its figure with sparsity"),
    "rtx_4090": Accelerator(165.2, "NVIDIA Ada GPU architecture whitepaper, table of the RTX 4090"),
    "mi300x": Accelerator(1307.4, "AMD Instinct MI300X data sheet"),
}


def project(flops: float, accelerator: str, mfu: float) -> dict[str, Any]:
    """GPU-hours = FLOPs / (peak x MFU), with what it assumes beside it.

    One MFU for a whole stage is kind to sampling, which memory bounds and not arithmetic: where a stage samples, read
    the result as a lower bound.

    Args:
        mfu: the share of the peak assumed to be reached, 0 to 1.
    """
    chip = ACCELERATORS[accelerator]
    return {
        "accelerator": accelerator,
        "projected": True,
        "gpu_hours": flops / (chip.bf16_tflops * 1e12 * mfu) / 3600,
        "assumed_mfu": mfu,
        "peak_bf16_tflops": chip.bf16_tflops,
        "peak_source": chip.source,
    }
