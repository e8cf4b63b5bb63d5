"""A plan in words: a table by stage, and one line."""

from collections.abc import Sequence

from bench.forecast.judging import Asked
from bench.forecast.memory import GIB
from bench.forecast.plan import Plan, StagePlan

_TERMS = ("process", "weights", "optimizer", "gradients", "activations", "logits", "cache")


def table(plan: Plan) -> str:
    """By stage: device time, memory with its largest terms, disk, TFLOPs; totals, judges, what it rests on."""
    head = ["stage", "time", "device-hours", "memory", "disk", "TFLOP", "of the memory"]
    rows = [_row(stage) for stage in plan.stages]
    start = ["start", _time(plan.start_s), f"{plan.start_s / 3600:.3f}", "", "", "", ""] if plan.start_s else None
    peak = plan.highest.memory.total
    flops = sum(stage.work.flops for stage in plan.stages)
    total = [
        "all",
        _time(plan.seconds),
        f"{plan.seconds / 3600:.3f}",
        _gib(peak),
        _gib(plan.disk),
        f"{flops / 1e12:,.1f}",
        "",
    ]
    lines = _aligned([head, *([start] if start else []), *rows, total])
    lines += ["", *(_judge(one) for one in plan.judges)] if plan.judges else [""]
    lines.append(
        f"for {plan.hardware.name}, {_gib(plan.hardware.capacity)} of memory, doing nothing else; {plan.hardware.basis}"
    )
    return "\n".join(lines)


def one_line(plan: Plan) -> str:
    """What `python -m bench` says before it starts."""
    parts = [f"about {_time(plan.seconds)} on {plan.hardware.name}"]
    parts.append(f"at most {_gib(plan.highest.memory.total)} of memory ({plan.highest.name})")
    parts.append(f"{_gib(plan.disk)} of disk")
    line = ", ".join(parts)
    if cached := sum(stage.cached for stage in plan.stages):
        line += f"; {cached} of {sum(stage.times for stage in plan.stages)} stages are in the cache"
    for one in plan.judges:
        line += f"; judge {one.judge}: at most {one.requests:,} questions"
        line += f", {one.dollars:,.2f} $" if one.dollars is not None else ""
    return f"plan: {line} ({plan.hardware.basis})"


def _row(stage: StagePlan) -> list[str]:
    name = f"{stage.name} x {stage.times}" if stage.times > 1 else stage.name
    if stage.is_cached:
        return [name, "cached", "", "", "", "", ""]
    if stage.cached:
        name += f" ({stage.cached} cached)"
    memory = stage.memory
    terms = sorted(((getattr(memory, term), term) for term in _TERMS), reverse=True)
    largest = ", ".join(f"{term} {_gib(size)}" for size, term in terms[:3] if size > 0.01 * memory.total)
    return [
        name,
        _time(stage.seconds),
        f"{stage.seconds / 3600:.3f}",
        _gib(memory.total),
        _gib(stage.disk),
        f"{stage.work.flops / 1e12:,.1f}",
        largest,
    ]


def _judge(asked: Asked) -> str:
    line = f"judge {asked.judge}: at most {asked.requests:,} questions, about {asked.prompt_tokens:,} tokens of prompt"
    line += f" and at most {asked.answer_tokens:,} of answers"
    return line + (f", {asked.dollars:,.2f} $" if asked.dollars is not None else "")


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Words on the left, numbers on the right of their columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(w) if i in (0, last) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
