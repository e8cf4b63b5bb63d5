"""What the judges share that are asked pair by pair, at a price: an answer is bought once and kept."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.cache import VerdictCache, question_key
from bench.records import VerdictLabel


@dataclass
class JudgeUsage:
    """What a judge has used up in this run. A question is a post with two different summaries in one order.

    Attributes:
        requests: sent, those that failed included; a local model's forward passes or generations.
        retries: requests that repeated one that failed.
        cached: questions whose answer an earlier run has bought.
        prompt_tokens, completion_tokens: read and written by the model, of this run's requests.
        unparsed: questions whose answer names no summary, cached ones included.
    """

    requests: int = 0
    retries: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unparsed: int = 0

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class AskingJudge(ABC):
    """A judge that would like all questions of a run at once; what it has answered costs nothing again.

    Every question is asked once, however many items repeat it, and its answer is kept on disk as it arrives. An
    answer that names no summary is kept too and not asked for again: asking until an answer suits would choose among
    answers. Two equal summaries tie without being shown.

    Args:
        asked: who is asked and how, everything but the texts that an answer depends on.
    """

    def __init__(self, name: str, prompt_hash: str, cache: VerdictCache, asked: Mapping[str, Any]) -> None:
        self.name = name
        self.prompt_hash = prompt_hash
        self.usage = JudgeUsage()
        self.cache = cache
        self._counting = threading.Lock()
        self._asked = {"judge": name, "prompt_hash": prompt_hash, **asked}
        self._labels: dict[str, VerdictLabel] = {}

    def judge(self, items: Sequence[JudgeItem]) -> list[VerdictLabel]:
        """One verdict per item: "a" means the first shown is better, "b" the second.

        Raises:
            ResourceError: answers are missing that could not be had; those that were are kept.
        """
        keys = [question_key(self._asked, item) for item in items]
        questions = {
            key: item
            for key, item in zip(keys, items, strict=True)
            if key not in self._labels and item.first != item.second
        }
        cached = self.cache.get(list(questions))
        for key, answer in cached.items():
            self._note(key, answer)
        self.usage.cached += len(cached)
        if missing := {key: item for key, item in questions.items() if key not in cached}:
            self.ask(missing)
        return [
            "tie" if item.first == item.second else self._labels[key] for key, item in zip(keys, items, strict=True)
        ]

    @abstractmethod
    def ask(self, questions: Mapping[str, JudgeItem]) -> None:
        """Have every question answered, giving each answer to `keep` as it arrives."""

    @abstractmethod
    def read(self, answer: str) -> VerdictLabel:
        """What a raw answer says."""

    def keep(self, key: str, answer: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Put one answer on disk and count what it took; several threads may call this."""
        kept = self.cache.put(
            key,
            answer,
            judge=self.name,
            prompt_hash=self.prompt_hash,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
        with self._counting:
            self.usage.prompt_tokens += prompt_tokens
            self.usage.completion_tokens += completion_tokens
            self._note(key, kept)

    def _note(self, key: str, answer: str) -> None:
        label = self.read(answer)
        self._labels[key] = label
        self.usage.unparsed += label == "unparsed"
