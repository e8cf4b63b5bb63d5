"""Where the time of our own steps goes, by kind of operator, and how fast a step could be at most."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from bench.perf.tables import at_peak_s

_KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm"),
    "attention": ("aten::_scaled_dot_product",),
    "optimizer step": ("aten::_fused_adamw_", "aten::_foreach", "aten::linalg_vector_norm"),
    "allocation and filling": ("aten::fill_", "aten::zero_", "aten::empty", "aten::resize_"),
}
OTHER = "elementwise, reductions and copies"


def kind_of(operator: str) -> str:
    """The group that an operator belongs to; matrix products by their full name, families by their beginning."""
    for kind, names in _KINDS.items():
        if operator in names or (kind != "matrix products" and operator.startswith(names)):
            return kind
    return OTHER


def shares(operators: Iterable[tuple[str, float]]) -> dict[str, float]:
    """(operator, self CPU time) -> each group's share of the whole, the largest first."""
    totals: dict[str, float] = defaultdict(float)
    for operator, seconds in operators:
        totals[kind_of(operator)] += seconds
    whole = sum(totals.values())
    return {kind: total / whole for kind, total in sorted(totals.items(), key=lambda item: -item[1])}


def text(task: str, profile: dict[str, float], measurement: dict[str, Any], peaks: dict[str, float]) -> str:
    """Markdown lines: the shares, and how fast matrix products and attention alone would run at the peaks (TFLOP/s)."""
    busy = sum(measurement["step_s"]) + measurement["reference_s"]
    at_peak = at_peak_s(measurement, peaks)
    counted = ", ".join(f"{flops / 1e12:.2f} TFLOP in {dtype}" for dtype, flops in measurement["flops"].items())
    fastest = ", ".join(f"{dtype} {peak:.2f}" for dtype, peak in peaks.items())
    lines = [f"| {kind} | {share:.0%} |" for kind, share in profile.items()]
    return (
        f"### {task}: where the time goes\n\n| kind of operator | share of CPU time |\n|---|---|\n"
        + "\n".join(lines)
        + f"\n\nCounted: {counted}, in {busy:.1f} s (under the profiler). At the measured matrix-product peak (TFLOP/s:"
        f" {fastest}) they would take {at_peak:.1f} s: a step that did nothing else would be {busy / at_peak:.1f} times"
        " as fast.\n\n"
    )
