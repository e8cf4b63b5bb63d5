"""What is trained on and sampled from: the user's preference pairs, or generated ones of a chosen length."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from bench.data import FilesConfig, SplitLimits, SyntheticConfig, load, subsample, truncate_prompts
from bench.records import PreferencePair

WORDS = "the cat dog friend house work money time day night car food book door water road phone job week year".split()


@dataclass(frozen=True)
class Workload:
    """Where the pairs come from, for the record, and the pairs."""

    source: str
    pairs: list[PreferencePair]

    def save(self, path: Path) -> None:
        path.write_text("".join(f"{json.dumps(asdict(pair))}\n" for pair in self.pairs), encoding="utf-8")


def read_pairs(path: Path) -> list[PreferencePair]:
    return [PreferencePair(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def from_folder(root: Path, count: int, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int) -> Workload:
    """`count` training pairs of a data folder (`data=files`), their posts cut to `max_prompt_tokens`.

    Raises:
        DataError: the folder is not laid out as `python -m bench --help data` says.
    """
    data = subsample(load(FilesConfig(root=str(root)), seed=0), SplitLimits(pairs=count), seed=0)
    data, _ = truncate_prompts(data, max_prompt_tokens, lambda text: len(tokenizer(text).input_ids))
    return Workload(f"{root.name}/preferences/train", data.preferences["train"])


def from_built_in_world(count: int, tokenizer: PreTrainedTokenizerBase, prompt_tokens: int) -> Workload:
    """Pairs of the built-in world whose posts are lengthened by other posts to about `prompt_tokens` tokens."""
    data = load(SyntheticConfig(), seed=0)
    pairs = data.preferences["train"]
    posts = [pair.prompt.rpartition("TL;DR:")[0].strip() for pair in pairs]
    lengthened = []
    for i, pair in enumerate(pairs[:count]):
        text, following = pair.prompt, i
        while len(tokenizer(text).input_ids) < prompt_tokens:
            following = (following + 1) % len(posts)
            text = f"{posts[following]}\n\n{text}"
        lengthened.append(PreferencePair(pair.id, text, pair.chosen, pair.rejected))
    return Workload(f"built-in world, posts lengthened to {prompt_tokens} tokens", lengthened)


def of_lengths(
    count: int, tokenizer: PreTrainedTokenizerBase, prompt_tokens: int, completion_tokens: int, seed: int = 0
) -> Workload:
    """Pairs of exactly so many tokens, the EOS not counted: words that are one token each, for the scaling table."""
    words = [word for word in WORDS if len(tokenizer(f" {word}").input_ids) == 1]
    rng = random.Random(seed)

    def text(n: int) -> str:
        return " ".join(rng.choices(words, k=n))

    pairs = [
        PreferencePair(str(i), f" {text(prompt_tokens)}", text(completion_tokens), text(completion_tokens))
        for i in range(count)
    ]
    return Workload(f"random words, {prompt_tokens} + {completion_tokens} tokens", pairs)


def token_counts(pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Mean tokens of the prompts and of the completions, EOS included."""
    prompts = [len(tokenizer(pair.prompt).input_ids) for pair in pairs]
    completions = [len(tokenizer(f" {text}").input_ids) + 1 for pair in pairs for text in (pair.chosen, pair.rejected)]
    return {
        "prompt_tokens": sum(prompts) / len(prompts),
        "completion_tokens": sum(completions) / len(completions),
    }
