"""Measurements as Markdown tables."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def rate(measurement: Mapping[str, Any]) -> float:
    """Units per second without the warm-up step; a reference pass done beforehand is shared out over all steps."""
    per_step = measurement["reference_s"] / len(measurement["step_s"])
    return sum(measurement["units"][1:]) / sum(seconds + per_step for seconds in measurement["step_s"][1:])


def at_peak_s(measurement: Mapping[str, Any], peaks: Mapping[str, float]) -> float:
    """Seconds that the counted FLOPs would take at the peaks (TFLOP/s by dtype), each in the dtype that it ran in."""
    return sum(flops / (peaks[dtype] * 1e12) for dtype, flops in measurement["flops"].items())


def mfu(measurement: Mapping[str, Any], peaks: Mapping[str, float]) -> float | None:
    """The share of the time that the counted FLOPs would take at the peak; None where none were counted."""
    if not measurement["flops"]:
        return None
    return at_peak_s(measurement, peaks) / (sum(measurement["step_s"]) + measurement["reference_s"])


def limit(ours: Mapping[str, Any], peer: Mapping[str, Any], peaks: Mapping[str, float]) -> float | None:
    """How many times as fast as the peer our steps would be if their FLOPs ran at the peak and nothing else took time.

    What no implementation of the same computation can pass on this processor; None where no FLOPs were counted.
    """
    if not ours["flops"]:
        return None
    return sum(ours["units"]) / at_peak_s(ours, peaks) / rate(peer)


def largest_loss_difference(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> float | None:
    """Over all steps of the first round; None where a contender logs no loss."""
    if not a or not b or not a[0]["losses"] or not b[0]["losses"]:
        return None
    return max(abs(x - y) for x, y in zip(a[0]["losses"], b[0]["losses"], strict=True))


def summarize(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per contender: medians over the rounds, and ours against it within each round."""
    measurements, rows = record["measurements"], []
    ours, peaks = measurements["ours"], record["gemm_tflops"]
    for name in sorted(measurements, key=lambda name: not name.startswith("ours")):  # ours first
        runs = measurements[name]
        if not runs:
            continue
        shares = [share for run in runs if (share := mfu(run, peaks)) is not None]
        paired = list(zip(ours, runs, strict=False))
        limits = [most for o, r in paired if (most := limit(o, r, peaks)) is not None]
        rows.append(
            {
                "contender": record["contenders"][name]["description"],
                "rate": statistics.median(map(rate, runs)),
                "rounds": len(runs),
                "ours_times": statistics.median(rate(o) / rate(r) for o, r in paired),
                "limit": statistics.median(limits) if limits else None,
                "peak_memory_gib": statistics.median(run["peak_memory_gib"] for run in runs),
                "memory_share": statistics.median(o["peak_memory_gib"] / r["peak_memory_gib"] for o, r in paired),
                "mfu": statistics.median(shares) if shares else None,
                "loss_difference": largest_loss_difference(ours, runs) if name != "ours" else None,
            }
        )
    return rows


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """A table per task, with what was measured on above it."""
    parts = []
    for record in records:
        peaks = ", ".join(f"{name} {value:.2f}" for name, value in record["gemm_tflops"].items())
        settings = record["settings"]
        batch = settings["prompts"] if record["task"] == "sampling" else settings["batch_size"]
        parts.append(
            f"### {record['task']}\n\n{record['model']} on {record['data']} (prompt {record['prompt_tokens']:.0f},"
            f" completion {record['completion_tokens']:.0f} tokens on average), batch {batch},"
            f" {settings['steps'] - 1} timed step(s) a round; GEMM peak in TFLOP/s: {peaks}.\n\n"
            f"| contender | {record['unit']} | ours is faster by | at the GEMM peak it would be | peak GiB |"
            " ours takes of it | share of GEMM peak | largest loss difference | rounds |\n"
            "|---|---|---|---|---|---|---|---|---|\n"
        )
        for row in summarize(record):
            itself = row["contender"].startswith("this project")
            cells = [
                row["contender"],
                f"{row['rate']:.3g}",
                "-" if itself else f"{row['ours_times']:.1f}x",
                "-" if itself or row["limit"] is None else f"{row['limit']:.1f}x",
                f"{row['peak_memory_gib']:.1f}",
                "-" if itself else f"{row['memory_share']:.0%}",
                "-" if row["mfu"] is None else f"{row['mfu']:.0%}",
                "-" if row["loss_difference"] is None else f"{row['loss_difference']:.1e}",
                str(row["rounds"]),
            ]
            parts.append(f"| {' | '.join(cells)} |\n")
        parts.append("\n")
    return "".join(parts)
