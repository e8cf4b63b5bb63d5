"""A small world of forum posts with known facts, so that the truth about a summary is known.

A post tells who did what, at which event, where and when, and asks a question, between distractors that look alike:
another person, another place, another time. Writers of varying skill summarise it: they leave facts out, take a
distractor for the fact, and pad. The *gold reward* of a summary is computed from the facts, and preferences are drawn
from Bradley-Terry on it. Everything is a function of the seed.
"""

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair
from bench.validation import require

WHO = """
sister brother roommate boss neighbor cousin landlord coworker girlfriend boyfriend father mother uncle aunt teacher
friend
""".split()
EVENT = (
    "wedding|birthday party|family dinner|road trip|job interview|graduation|camping trip|house move|funeral|"
    "concert|holiday party|baby shower"
).split("|")
PLACE = """
Denver Boston Chicago Seattle Austin Portland Dallas Phoenix Atlanta Miami Detroit Memphis Tampa Omaha Tucson Buffalo
""".split()
TIME = (
    "last night|last week|two days ago|on Sunday|last month|this morning|over the summer|on Friday|three weeks ago|"
    "last winter|yesterday|in April"
).split("|")
PROBLEM = (
    "lied about the money|broke my laptop|read my private messages|refused to pay the bill|forgot to invite me|"
    "crashed my car|told everyone my secret|stole my credit card|yelled at my dog|ruined the surprise|"
    "spilled wine on my dress|blamed me for everything|sold my old guitar|ate all of the food|"
    "ignored me the whole time|made fun of my job|borrowed my bike and lost it|invited my ex|"
    "posted my photos online|threw away my plants"
).split("|")
QUESTION = (
    "should I call a lawyer|should I just apologize|how do I get my money back|am I wrong to be angry|"
    "how do I say no next time|should I move out|should I tell my parents|how can I trust them again|"
    "is it too late to fix this|should I ask for an apology|do I need to let it go|how do I bring this up"
).split("|")
LEXICON = {"who": WHO, "problem": PROBLEM, "event": EVENT, "place": PLACE, "time": TIME, "question": QUESTION}

WEIGHTS = {"who": 0.15, "problem": 0.30, "event": 0.10, "place": 0.10, "time": 0.10, "question": 0.25}
"""Gold reward of each fact that a summary covers; they add up to 1."""
INVENTED_COST = 0.20
"""Cost of each wrong value that a summary names (an invented fact, or a distractor taken for one)."""
FREE_WORDS = 8
"""Words besides the facts' own that a summary may use at no cost ("my", "at the", "in", ...)."""
WORD_COST = 0.03
"""Cost of each word beyond that: padding, repetition, copied asides."""

PADDING = (
    "sorry for the long post|it has been really hard for me|any advice would help a lot|"
    "I do not know what to do anymore|this is my first post here|thank you all for reading|"
    "things are very tense between us now|I feel awful about the whole thing"
).split("|")
SUBREDDITS = "relationships family legaladvice personalfinance advice".split()
FILLER = (
    "I work from home and I have two cats.|I usually stay out of drama.|The weather was awful that day.|"
    "I had been looking forward to it for months.|We never had a fight before.|I have not slept well since then.|"
    "I like to cook and I play chess.|Money is tight right now."
).split("|")


@dataclass(frozen=True)
class SyntheticConfig:
    """Size and noise of the built-in world."""

    kind: str = "synthetic"
    demonstrations: int = 4000
    preference_pairs: int = 3000
    judge_pairs: int = 3000
    validation_pairs: int = 1000
    eval_prompts: int = 256
    preference_noise: float = 0.15

    def __post_init__(self) -> None:
        for name in ("demonstrations", "preference_pairs", "judge_pairs", "validation_pairs", "eval_prompts"):
            require(getattr(self, name) >= 1, f"data.{name}", getattr(self, name), "must be at least 1")
        require(self.preference_noise > 0, "data.preference_noise", self.preference_noise, "must be above 0")


@dataclass(frozen=True)
class Facts:
    """What a post says, by slot, and the look-alikes that it also mentions."""

    values: dict[str, str]
    distractors: dict[str, str]


@dataclass(frozen=True)
class Post:
    id: str
    prompt: str
    title: str
    first_sentence: str
    facts: Facts


def normalise(text: str) -> str:
    """Lower-case words separated by single spaces, other characters dropped."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


_PHRASES = {slot: [(value, f" {normalise(value)} ") for value in values] for slot, values in LEXICON.items()}


def gold_reward(facts: Facts, summary: str) -> float:
    """How good a summary is, at most 1: facts covered, less wrong values named, less padding. The empty one has 0.

    A fact counts when its phrase stands in the summary; every other value of the same slot costs INVENTED_COST, and
    every word beyond the covered facts' own and FREE_WORDS more costs WORD_COST.
    """
    text = f" {normalise(summary)} "
    covered, invented, fact_words = 0.0, 0, 0
    for slot, phrases in _PHRASES.items():
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


def write_post(rng: random.Random, post_id: str) -> Post:
    """A post of about 80 words: the facts in varying order and wording, and one distractor for who, place and time."""
    picks = {slot: rng.sample(values, 2) for slot, values in LEXICON.items()}
    fact = {slot: pair[0] for slot, pair in picks.items()}
    other = {slot: picks[slot][1] for slot in ("who", "place", "time")}
    title = rng.choice(
        [
            f"Need advice about my {fact['who']}",
            f"Trouble at the {fact['event']}",
            f"My {fact['who']} and the {fact['event']}",
            f"I need help with my {fact['who']}",
        ]
    )
    opening = rng.choice(
        [
            f"I grew up in {other['place']} and I am new here.",
            f"I live in {other['place']} with my {other['who']}.",
            f"My {other['who']} told me to post this.",
        ]
    )
    scene = rng.choice(
        [
            f"There was a {fact['event']} in {fact['place']} {fact['time']} and my {fact['who']} was there.",
            f"I went to a {fact['event']} in {fact['place']} {fact['time']} with my {fact['who']}.",
            f"My {fact['who']} came to the {fact['event']} in {fact['place']} {fact['time']}.",
        ]
    )
    problem = rng.choice(
        [
            f"My {fact['who']} {fact['problem']}.",
            f"Then my {fact['who']} {fact['problem']} in front of people.",
        ]
    )
    aside = rng.choice(
        [
            f"My {other['who']} says I worry too much.",
            f"I moved away from {other['place']} {other['time']}.",
            f"We last talked {other['time']} on the phone.",
        ]
    )
    question = rng.choice([f"So {fact['question']}?", f"My question is, {fact['question']}?"])
    body = [opening, scene, problem, aside, rng.choice(FILLER)]
    if rng.random() < 0.5:  # the aside may come before the scene, so position alone does not tell fact from distractor
        body = [opening, aside, scene, problem, body[4]]
    text = " ".join([*body, question])
    prompt = f"SUBREDDIT: r/{rng.choice(SUBREDDITS)}\n\nTITLE: {title}\n\nPOST: {text}\n\nTL;DR:"
    return Post(post_id, prompt, title, opening, Facts(fact, other))


def write_summary(rng: random.Random, post: Post) -> str:
    """A writer's summary: facts kept and got right more often by the skilful, padded more often by the talkative."""
    skill, talkative = rng.random(), rng.random()
    said: dict[str, str] = {}
    for slot, value in post.facts.values.items():
        if rng.random() > 0.40 + 0.55 * skill:
            continue
        if rng.random() < 0.20 * (1 - skill):
            value = post.facts.distractors.get(slot) or rng.choice([v for v in LEXICON[slot] if v != value])
        said[slot] = value
    pads = sum(rng.random() < 0.45 * talkative for _ in range(4))
    return " ".join([compose(said), *(f"{padding}." for padding in rng.sample(PADDING, pads))])


def compose(said: Mapping[str, str]) -> str:
    """One sentence that says the given slots and nothing else."""
    who = f"my {said['who']}" if "who" in said else "someone"
    story = f"{who} {said['problem']}" if "problem" in said else f"there is trouble with {who}"
    for slot, template in (("event", " at the {}"), ("place", " in {}"), ("time", " {}")):
        if slot in said:
            story += template.format(said[slot])
    return story + (f", {said['question']}?" if "question" in said else ".")


class World:
    """All posts of one seed and what their writers made of them."""

    def __init__(self, config: SyntheticConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    def posts(self, split: str, count: int) -> list[Post]:
        """The first `count` posts of a split; a longer list begins with the shorter one."""
        rng = random.Random(f"{self.seed}/{split}/posts")
        return [write_post(rng, f"{split}-{i:05d}") for i in range(count)]

    @cached_property
    def eval_posts(self) -> list[Post]:
        return self.posts("test", self.config.eval_prompts)

    def writer(self, post: Post, role: str) -> random.Random:
        """A generator for what is written about a post, independent of every other post and role."""
        return random.Random(f"{self.seed}/{post.id}/{role}")

    def preference(self, post: Post) -> PreferencePair | None:
        """Two writers' summaries and the better one by Bradley-Terry on the gold reward; None if they are the same."""
        rng = self.writer(post, "pair")
        first, second = write_summary(rng, post), write_summary(rng, post)
        if normalise(first) == normalise(second):
            return None
        margin = gold_reward(post.facts, first) - gold_reward(post.facts, second)
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
            policies["longest"][post.id] = max((write_summary(rng, post) for _ in range(16)), key=len)
            policies["best"][post.id] = compose(post.facts.values)
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
            Demonstration(p.id, p.prompt, write_summary(world.writer(p, "reference"), p)) for p in posts(split, count)
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
            EvalPrompt(p.id, p.prompt, write_summary(world.writer(p, "reference"), p)) for p in world.eval_posts
        ],
        source={"name": "synthetic", "seed": str(seed)},
        gold=lambda prompt_id, summary: gold_reward(facts[prompt_id], summary),
        trivial_policies=world.trivial_policies(),
        dropped={"identical_pairs": identical} if identical else {},
    )
