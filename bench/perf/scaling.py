"""How time and memory grow with the prompt, the completion, the batch and the model: one axis at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from transformers import PreTrainedModel

from bench.files import atomic_open
from bench.models import tiny
from bench.models.config import ModelConfig
from bench.models.loading import new_reward_model, save_policy
from bench.perf.tables import rate
from bench.perf.workload import WORDS
from bench.special_tokens import pad_id

_LABELS = {
    "prompt_tokens": "prompt, tokens",
    "completion_tokens": "completion, tokens",
    "batch_size": "batch",
    "hidden_size": "parameters of the model",
}


@dataclass(frozen=True)
class Point:
    """One input. The model is a randomly initialised Llama of 8 layers."""

    prompt_tokens: int = 256
    completion_tokens: int = 32
    batch_size: int = 8
    hidden_size: int = 256


AXES: dict[str, list[Point]] = {
    "prompt_tokens": [Point(prompt_tokens=n) for n in (128, 256, 512, 1024)],
    "completion_tokens": [Point(completion_tokens=n) for n in (16, 32, 128)],
    "batch_size": [Point(batch_size=n) for n in (4, 8, 32)],
    "hidden_size": [Point(hidden_size=n) for n in (128, 256, 512)],
}


def build_model(hidden_size: int, folder: Path) -> int:
    """Save the point's policy and reward model under `folder`; the number of the policy's parameters."""
    texts = [" ".join(WORDS)] * 20
    config = ModelConfig(
        hidden_size=hidden_size, layers=8, heads=4, vocabulary=300, max_positions=2048, architecture="llama"
    )
    tokenizer = tiny.train_tokenizer(texts, config.vocabulary, config.max_positions)
    policy: PreTrainedModel = tiny.build(config, tokenizer, 0)
    if not (folder / "reward" / "config.json").exists():
        save_policy(policy, tokenizer, folder)
        reward = new_reward_model(folder, pad_id(tokenizer), 0, torch.device("cpu"))
        save_policy(reward, tokenizer, folder / "reward")
    return sum(p.numel() for p in policy.parameters())


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """b of seconds = a * size^b, least squares on the logarithms; 1 is linear."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def sizes_of(axis: str, points: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(p["parameters"] if axis == "hidden_size" else p["point"][axis]) for p in points]


def seconds_per_step(point: Mapping[str, Any], contender: str) -> float:
    """Of the whole batch, the DPO reference pass shared out over the steps."""
    return point["point"]["batch_size"] / rate(point["measurements"][contender])


def table(axes: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[str, str]) -> str:
    """Markdown: seconds and GiB at every point, and the exponent of the growth along every axis."""
    parts = []
    for axis, points in axes.items():
        sizes = sizes_of(axis, points)
        parts.append(f"### {_LABELS[axis]}\n\n| | {' | '.join(f'{size:,.0f}' for size in sizes)} | exponent |\n")
        parts.append(f"|---|{'---|' * (len(sizes) + 1)}\n")
        for contender, name in names.items():
            seconds = [seconds_per_step(point, contender) for point in points]
            memory = [point["measurements"][contender]["peak_memory_gib"] for point in points]
            cells = [f"{s:.2f} s, {m:.2f} GiB" for s, m in zip(seconds, memory, strict=True)]
            parts.append(f"| {name} | {' | '.join(cells)} | {exponent(sizes, seconds):.2f} |\n")
        parts.append("\n")
    base = asdict(Point())
    parts.append(
        f"The other three inputs stay at {base['prompt_tokens']} + {base['completion_tokens']} tokens, batch"
        f" {base['batch_size']}, hidden size {base['hidden_size']}. The time of one optimizer step (ppo: one update,"
        " sampling included) grows as size^exponent; peak memory is the whole process's, about half a GiB of which is"
        " the libraries.\n"
    )
    return "".join(parts)


def figure(axes: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[str, str], path: Path) -> None:
    """Seconds and GiB against every axis, both logarithmic, with the linear growth from the first point dotted."""
    canvas = Figure(figsize=(3.2 * len(axes), 5.6), layout="constrained")
    grid = canvas.subplots(2, len(axes), squeeze=False)
    for column, (axis, points) in enumerate(axes.items()):
        sizes = sizes_of(axis, points)
        for contender, name in names.items():
            seconds = [seconds_per_step(point, contender) for point in points]
            (line,) = grid[0][column].loglog(sizes, seconds, marker="o", label=name)
            linear = [seconds[0] * size / sizes[0] for size in sizes]
            grid[0][column].loglog(sizes, linear, ":", color=line.get_color(), linewidth=1)
            memory = [point["measurements"][contender]["peak_memory_gib"] for point in points]
            grid[1][column].loglog(sizes, memory, marker="o", color=line.get_color())
        grid[1][column].set_xlabel(_LABELS[axis])
    grid[0][0].set_ylabel("seconds per step (dotted: linear)")
    grid[1][0].set_ylabel("peak memory, GiB")
    grid[0][0].legend(fontsize="small")
    with atomic_open(path, "wb") as handle:
        canvas.savefig(handle, format=path.suffix.lstrip("."))


def unique_points() -> list[Point]:
    return list(dict.fromkeys(point for points in AXES.values() for point in points))
