"""A small world of forum posts with known facts, so that the truth about a summary is known.

A post tells who did what, at which event, where and when, and asks a question, between distractors that look alike:
another person, another place, another time. Writers of varying skill summarise it: they leave facts out, take a
distractor for the fact, and pad. The *gold reward* of a summary is computed from the facts, and preferences are drawn
from Bradley-Terry on it. Everything is a function of the seed.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from bench.data.forum import FORUM
from bench.data.language import Facts, Language, Post, normalise
from bench.data.news import NEWS
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair, one_by_one
from bench.validation import require

WEIGHTS = {"who": 0.15, "problem": 0.30, "event": 0.10, "place": 0.10, "time": 0.10, "question": 0.25}
"""Gold reward of each fact that a summary covers; they add up to 1."""
INVENTED_COST = 0.20
"""Cost of each wrong value that a summary names (an invented fact, or a distractor taken for one)."""
FREE_WORDS = 8
"""Words besides the facts' own that a summary may use at no cost ("my", "at the", "in", ...)."""
WORD_COST = 0.03
"""Cost of each word beyond that: padding, repetition, copied asides."""
LANGUAGES: Mapping[str, Language] = {"forum": FORUM, "news": NEWS}


@dataclass(frozen=True)
class SyntheticConfig:
    """What the built-in world speaks of, its size and its noise."""

    kind: str = "synthetic"
    demonstrations: int = 4000
    preference_pairs: int = 3000
    judge_pairs: int = 3000
    validation_pairs: int = 1000
    eval_prompts: int = 256
    preference_noise: float = 0.15
    language: Literal["forum", "news"] = "forum"

    def __post_init__(self) -> None:
        for name in ("demonstrations", "preference_pairs", "judge_pairs", "validation_pairs", "eval_prompts"):
            require(getattr(self, name) >= 1, f"data.{name}", getattr(self, name), "must be at least 1")
        require(self.preference_noise > 0, "data.preference_noise", self.preference_noise, "must be above 0")


def gold_reward(facts: Facts, summary: str, language: Language = FORUM) -> float:
    """How good a summary is, at most 1: facts covered, less wrong values named, less padding. The empty one has 0.

    A fact counts when its phrase stands in the summary; every other value of the same slot costs INVENTED_COST, and
    every word beyond the covered facts' own and FREE_WORDS more costs WORD_COST.
    """
    text = f" {normalise(summary)} "
    covered, invented, fact_words = 0.0, 0, 0
    for slot, phrases in language.phrases.items():
        for value, phrase in phrases:
            if phrase not in text:
                continue
            if value == facts.values[slot]:
                covered += WEIGHTS[slot]
                fact_words += len(phrase.split())
            else:
                invented += 1
    padding = max(0, len(text.split()) - fact_words - FREE_WORDS)
    return covered - INVENTED_COST * invented - WORD_COST * padding


def write_summary(rng: random.Random, post: Post, language: Language = FORUM) -> str:
    """A writer's summary: facts kept and got right more often by the skilful, padded more often by the talkative."""
    skill, talkative = rng.random(), rng.random()
    said: dict[str, str] = {}
    for slot, value in post.facts.values.items():
        if rng.random() > 0.40 + 0.55 * skill:
            continue
        if rng.random() < 0.20 * (1 - skill):
            value = post.facts.distractors.get(slot) or rng.choice([v for v in language.lexicon[slot] if v != value])
        said[slot] = value
    pads = sum(rng.random() < 0.45 * talkative for _ in range(4))
    return " ".join([language.compose(said), *(f"{padding}." for padding in rng.sample(language.padding, pads))])


class World:
    """All posts of one seed and what their writers made of them."""

    def __init__(self, config: SyntheticConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.language = LANGUAGES[config.language]

    def posts(self, split: str, count: int) -> list[Post]:
        """The first `count` posts of a split; a longer list begins with the shorter one."""
        rng = random.Random(f"{self.seed}/{split}/posts")
        return [self.language.write_post(rng, f"{split}-{i:05d}") for i in range(count)]

    @cached_property
    def eval_posts(self) -> list[Post]:
        return self.posts("test", self.config.eval_prompts)

    def writer(self, post: Post, role: str) -> random.Random:
        """A generator for what is written about a post, independent of every other post and role."""
        return random.Random(f"{self.seed}/{post.id}/{role}")

    def summary(self, rng: random.Random, post: Post) -> str:
        return write_summary(rng, post, self.language)

    def gold(self, facts: Facts, summary: str) -> float:
        return gold_reward(facts, summary, self.language)

    def preference(self, post: Post) -> PreferencePair | None:
        """Two writers' summaries and the better one by Bradley-Terry on the gold reward; None if they are the same."""
        rng = self.writer(post, "pair")
        first, second = self.summary(rng, post), self.summary(rng, post)
        if normalise(first) == normalise(second):
            return None
        margin = self.gold(post.facts, first) - self.gold(post.facts, second)
        first_wins = rng.random() < 1 / (1 + math.exp(-margin / self.config.preference_noise))
        chosen, rejected = (first, second) if first_wins else (second, first)
        return PreferencePair(post.id, post.prompt, chosen, rejected)

    def trivial_policies(self) -> dict[str, dict[str, str]]:
        """Policy -> post id -> summary on the evaluation posts: what must not take a good judge in, and the best.

        `longest` is the longest of 16 writers' summaries, `best` a writer who keeps every fact and adds nothing.
        """
        policies: dict[str, dict[str, str]] = {
            name: {} for name in ("empty", "title", "first_sentence", "longest", "best")
        }
        for post in self.eval_posts:
            rng = self.writer(post, "longest")
            policies["empty"][post.id] = ""
            policies["title"][post.id] = post.title
            policies["first_sentence"][post.id] = post.first_sentence
            policies["longest"][post.id] = max((self.summary(rng, post) for _ in range(16)), key=len)
            policies["best"][post.id] = self.language.compose(post.facts.values)
        return policies


def build(config: SyntheticConfig, seed: int) -> ComparisonData:
    """The world's data: posts of different splits are different posts."""
    world = World(config, seed)
    facts: dict[str, Facts] = {}

    def posts(split: str, count: int) -> list[Post]:
        made = world.posts(split, count)
        facts.update((post.id, post.facts) for post in made)
        return made

    def demonstrations(split: str, count: int) -> list[Demonstration]:
        return [
            Demonstration(p.id, p.prompt, world.summary(world.writer(p, "reference"), p)) for p in posts(split, count)
        ]

    identical = 0

    def preferences(split: str, count: int) -> list[PreferencePair]:
        nonlocal identical
        pairs = [world.preference(post) for post in posts(split, count)]
        identical += pairs.count(None)
        return [pair for pair in pairs if pair is not None]

    facts.update((post.id, post.facts) for post in world.eval_posts)
    return ComparisonData(
        demonstrations={
            "train": demonstrations("demonstration", config.demonstrations),
            "validation": demonstrations("sft-validation", config.eval_prompts),
        },
        preferences={
            "train": preferences("preference", config.preference_pairs),
            "judge": preferences("judge", config.judge_pairs),
            "validation": preferences("validation", config.validation_pairs),
        },
        eval_prompts=[
            EvalPrompt(p.id, p.prompt, world.summary(world.writer(p, "reference"), p)) for p in world.eval_posts
        ],
        source={"name": "synthetic", "language": config.language, "seed": str(seed)},
        gold=one_by_one(lambda prompt_id, summary: world.gold(facts[prompt_id], summary)),
        trivial_policies=world.trivial_policies(),
        dropped={"identical_pairs": identical} if identical else {},
    )
