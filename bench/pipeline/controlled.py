"""What a controlled run has besides: the known reward, and pairs that its own SFT model wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.arms import STAGE_BY_NAME
from bench.config import RunConfig
from bench.data import ControlledConfig
from bench.data.controlled import Labelled
from bench.data.splits import add_counts, post_key
from bench.evaluate.known_reward import known_reward, trivial_policies
from bench.evaluate.statistics import bootstrap_mean, estimate, proportion_interval
from bench.pipeline.engine import Engine
from bench.records import ComparisonData
from bench.stages.label import read_labelled

LABEL = STAGE_BY_NAME["label"]


def with_known_reward(config: RunConfig, data: ComparisonData, cache_dir: Path) -> ComparisonData:
    """The data with the reward that its config names; other data as it is.

    Raises:
        UserError: as `bench.evaluate.known_reward.known_reward`.
    """
    if not isinstance(config.data, ControlledConfig):
        return data
    gold = known_reward(config.data.reward, data, cache_dir)
    return replace(data, gold=gold, trivial_policies=trivial_policies(data.eval_prompts))


def labelled(engine: Engine, makes: bool = True) -> dict[str, Any]:
    """Have the pairs of a controlled run made, give them to the engine, and return the `labels` of metrics.json.

    Nothing where the data has its pairs, or where all samples of every post are equal; without `makes` nothing either
    where the cache lacks them.
    """
    is_there = (engine.recipe(LABEL).folder / "stage.json").exists() if engine.data.awaits_labels else False
    if not engine.data.awaits_labels or not (makes or is_there):
        return {}
    engine.finish([(LABEL, None)])
    found = read_labelled(engine.finished(LABEL).folder)
    places = engine.data.preferences
    pairs = {split: [row.pair for row in found.get(split, [])] for split in places}
    missing = sum(map(len, places.values())) - sum(map(len, pairs.values()))
    dropped = add_counts(engine.data.dropped, {"pairs whose samples are equal": missing})
    engine.take(replace(engine.data, preferences=pairs, awaits_labels=False, dropped=dropped))
    return label_numbers(found, engine.config.seed, engine.config.evaluation.bootstrap_resamples)


def label_numbers(found: Mapping[str, Sequence[Labelled]], seed: int, resamples: int) -> dict[str, Any]:
    """Split -> "pairs", "posts", "gold_agrees" (share of labels that follow the known reward: what a reward model that
    knew it would reach) and "gold_margin" (mean distance of a pair's two rewards, by post)."""
    numbers: dict[str, Any] = {}
    for split, rows in found.items():
        posts = [post_key(row.pair.prompt) for row in rows]
        follows = [
            0.5 if row.chosen_gold == row.rejected_gold else float(row.chosen_gold > row.rejected_gold) for row in rows
        ]
        margins: dict[str, list[float]] = {}
        for post, row in zip(posts, rows, strict=True):
            margins.setdefault(post, []).append(abs(row.chosen_gold - row.rejected_gold))
        numbers[split] = {
            "pairs": len(rows),
            "posts": len(margins),
            "gold_agrees": estimate(proportion_interval(follows, seed, resamples, posts)),
            "gold_margin": estimate(bootstrap_mean([fmean(of_post) for of_post in margins.values()], seed, resamples)),
        }
    return numbers
