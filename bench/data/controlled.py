"""Real posts whose preference pairs are made here: samples of the SFT model, labelled by a known reward.

The posts are those of a folder of files, each with what a person wrote of it; its own pairs and their labels are not
used. Rafailov et al. 2023 did so with sentiment (section 6.1): where the reward is known, how far each arm comes along
it, and where it leaves it, is measured and not judged.
"""

import hashlib
import math
import random
import re
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import combinations, islice
from pathlib import Path
from typing import NamedTuple

from bench.data import splits
from bench.data.config import ControlledConfig, FilesConfig, KnownRewardConfig
from bench.data.local import load_posts
from bench.data.prompts import text_parts
from bench.errors import DataError
from bench.reach import code_key
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair

_SENTENCE_END = re.compile(r"[.!?…][\"')\]]*(?=\s)|(?=\n)")


class Labelled(NamedTuple):
    """A pair and the known reward of both summaries."""

    pair: PreferencePair
    chosen_gold: float
    rejected_gold: float


def load_controlled(config: ControlledConfig) -> ComparisonData:
    """The posts, split as the files are, and a place for every pair that is to be made (`awaits_labels`).

    Every post that has a human summary is a demonstration, and one for pairs: those of the training split for training,
    those of the validation split held out. The test posts are the evaluation prompts.

    Raises:
        DataError: as `load_posts`; or a split has no post with a human summary.
    """
    found, source = load_posts(config)
    posts = {split: _posts(rows, config.max_post_words) for split, rows in found.items()}
    for split, rows in posts.items():
        if not rows:
            raise DataError(
                f"{config.root}: no {split} post with a human summary; give data.demonstrations.{split}, or"
                f" data.preferences.{split} with human summaries (data.columns.reference), or more posts"
            )
    data = ComparisonData(
        demonstrations={
            split: [Demonstration(post.id, post.prompt, post.reference) for post in posts[split]]
            for split in ("train", "validation")
        },
        preferences={
            "train": _places(posts["train"], config.pairs_per_post),
            "judge": [],
            "validation": _places(posts["validation"], config.pairs_per_post),
        },
        eval_prompts=posts["test"],
        source={"name": "controlled", **source},
        awaits_labels=True,
    )
    data = splits.drop_leaks(data)  # what was cut may have been all that told two posts apart
    return splits.carve_judge(data, config.judge_fraction, config.split_seed) if config.judge_fraction else data


def files_of(config: ControlledConfig) -> FilesConfig:
    """Its files as they are, pairs and labels among them; raises ConfigError where it names no pairs."""
    return FilesConfig(
        root=config.root,
        demonstrations=config.demonstrations,
        preferences=config.preferences,
        columns=config.columns,
        identical_pairs="drop",
        judge_fraction=0.0,
        split_seed=config.split_seed,
    )


def excerpt_of(prompt: str, max_words: int | None) -> str:
    """The prompt with an excerpt of its post; of its text where it marks no post."""
    head, post, tail = text_parts(prompt)
    return head + excerpt(post, max_words) + tail


def excerpt(post: str, max_words: int | None) -> str:
    """The post's first sentences, as many as have `max_words` words; of a longer first sentence its first words."""
    words = post.split()
    if max_words is None or len(words) <= max_words:
        return post
    ends = [end.end() for end in _SENTENCE_END.finditer(post)]
    whole = [end for end in ends if 0 < len(post[:end].split()) <= max_words]
    return post[: whole[-1]].strip() if whole else " ".join(words[:max_words])


def scorer_code(config: KnownRewardConfig) -> str:
    """A hash of the source that the scorer's numbers come from; of a module outside this project its file alone."""
    module = config.scorer.partition(":")[0]
    if module.partition(".")[0] == "bench":
        return code_key(module)
    spec = find_spec(module)
    origin = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return hashlib.sha256(origin.read_bytes()).hexdigest() if origin is not None and origin.is_file() else ""


def pair_samples(
    place: PreferencePair, number: int, samples: Sequence[str], golds: Sequence[float], noise: float, seed: int
) -> Labelled | None:
    """The place's pair: two different ones of its post's samples, the chosen one drawn from Bradley-Terry.

    P(a is chosen over b) = 1 / (1 + exp(-(gold(a) - gold(b)) / noise)), the draw a function of the seed and the pair's
    id. None where the samples have no such pair left.

    Args:
        number: which pair of its post's, from 0: those of 4 samples are 01, 23, 02, 13, 03, 12, so that the first ones
            share no sample.
    """
    order = sorted(combinations(range(len(samples)), 2), key=lambda pair: (pair[0] ^ pair[1], pair))
    different = ((i, j) for i, j in order if samples[i] != samples[j])
    found = next(islice(different, number, None), None)
    if found is None:
        return None
    i, j = found
    if random.Random(f"{seed}/{place.id}").random() >= chance(golds[i] - golds[j], noise):
        i, j = j, i
    pair = PreferencePair(place.id, place.prompt, samples[i], samples[j], place.reference)
    return Labelled(pair, golds[i], golds[j])


def chance(margin: float, noise: float) -> float:
    """Bradley-Terry: the probability that the summary whose reward is higher by `margin` is chosen."""
    return 0.5 * (1 + math.tanh(margin / noise / 2))


def _posts(rows: Sequence[Demonstration], max_words: int | None) -> list[EvalPrompt]:
    """Every post, once."""
    return splits.one_per_post(EvalPrompt(d.id, excerpt_of(d.prompt, max_words), d.completion) for d in rows)


def _places(posts: Sequence[EvalPrompt], pairs_per_post: int) -> list[PreferencePair]:
    return [
        PreferencePair(f"{post.id}/{number}", post.prompt, post.reference, post.reference, post.reference)
        for post in posts
        for number in range(pairs_per_post)
    ]
