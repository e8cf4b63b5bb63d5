"""What the built-in worlds are written in: a lexicon of facts, a writer of posts, and one sentence that says facts."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property


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


@dataclass(frozen=True)
class Language:
    """How a world speaks.

    Attributes:
        lexicon: slot -> the values that it can have; no value hides in another one or in the padding.
        padding: what talkative writers add.
        write_post: (generator, id) -> a post.
        compose: facts by slot -> one sentence that says them and nothing else.
    """

    lexicon: Mapping[str, Sequence[str]]
    padding: Sequence[str]
    write_post: Callable[[random.Random, str], Post]
    compose: Callable[[Mapping[str, str]], str]

    @cached_property
    def phrases(self) -> dict[str, list[tuple[str, str]]]:
        """Slot -> (value, the phrase that is looked for in a normalised summary)."""
        return {slot: [(value, f" {normalise(value)} ") for value in values] for slot, values in self.lexicon.items()}


def one_sentence(said: Mapping[str, str], *, owner: str, nothing: str, end: str) -> str:
    """One sentence that says the given slots and nothing else.

    Args:
        owner: stands before who did it; `nothing`: what is told of somebody who did nothing; `end`: of the sentence.
    """
    who = f"{owner} {said['who']}" if "who" in said else "someone"
    story = f"{who} {said['problem']}" if "problem" in said else f"{nothing} {who}"
    for slot, template in (("event", " at the {}"), ("place", " in {}"), ("time", " {}")):
        if slot in said:
            story += template.format(said[slot])
    return story + (f", {said['question']}{end}" if "question" in said else ".")


def normalise(text: str) -> str:
    """Lower-case words separated by single spaces, other characters dropped."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))
