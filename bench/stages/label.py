"""Preference pairs of the SFT model's own samples, labelled by Bradley-Terry on the known reward (`data=controlled`).

Every arm is trained on these pairs; they are data, and their cost is no arm's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import processes
from bench.data.config import ControlledConfig
from bench.data.controlled import Labelled, pair_samples
from bench.files import read_jsonl, write_jsonl
from bench.generation import SamplingConfig, decode
from bench.models.loading import load_policy
from bench.records import ComparisonData, EvalPrompt, PreferencePair
from bench.stages.context import Built, StageContext, sample_prompts
from bench.stages.truth import truth_of

if TYPE_CHECKING:
    from bench.config import RunConfig

PAIRS = "pairs.jsonl"


def needs(config: "RunConfig", data: ComparisonData) -> dict[str, Any]:
    assert isinstance(config.data, ControlledConfig)
    return {
        "places": tuple((split, pair) for split, pairs in data.preferences.items() for pair in pairs),
        "samples_per_post": config.data.samples_per_post,
        "sampling": SamplingConfig(config.data.sampling_temperature, config.sampling.batch_size),
        "max_new_tokens": config.budget.max_completion_tokens,
        "noise": config.data.preference_noise,
        "seed": config.seed,
        "truth": truth_of(config.data.reward),
    }


def build(
    context: StageContext,
    inputs: Mapping[str, Path],
    folder: Path,
    *,
    places: Sequence[tuple[str, PreferencePair]],
    samples_per_post: int,
    sampling: SamplingConfig,
    max_new_tokens: int,
    noise: float,
    seed: int,
    truth: Any,
) -> Built:
    """`truth` says what the context's gold reward is."""
    assert context.gold is not None
    posts = [*{place.prompt: EvalPrompt(place.id, place.prompt, place.reference or "") for _, place in places}.values()]
    sampled = sample_prompts(
        context,
        load_policy(inputs["sft"], context.device, context.frozen_dtype),
        posts,
        samples_per_prompt=samples_per_post,
        sampling=sampling,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    if not processes.is_main():
        return Built()
    texts = [decode(context.tokenizer, completion.ids) for completion in sampled]
    owners = [post for post in posts for _ in range(samples_per_post)]
    golds = context.gold([(post.id, text) for post, text in zip(owners, texts, strict=True)])
    of_post = {
        post.prompt: slice(start, start + samples_per_post)
        for post, start in zip(posts, range(0, len(texts), samples_per_post), strict=True)
    }
    rows = []
    for split, place in places:
        own = of_post[place.prompt]
        number = int(place.id.rpartition("/")[2])
        if (found := pair_samples(place, number, texts[own], golds[own], noise, seed)) is not None:
            rows.append({"split": split, **found._asdict(), "pair": asdict(found.pair)})
    write_jsonl(folder / PAIRS, rows)
    return Built(tokens_generated=sum(len(completion.ids) for completion in sampled))


def read_labelled(folder: Path) -> dict[str, list[Labelled]]:
    """Split -> its pairs, as `build` left them."""
    found: dict[str, list[Labelled]] = {}
    for row in read_jsonl(folder / PAIRS):
        pair = Labelled(PreferencePair(**row["pair"]), row["chosen_gold"], row["rejected_gold"])
        found.setdefault(row["split"], []).append(pair)
    return found
