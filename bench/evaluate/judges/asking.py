"""What the judges share that are asked pair by pair, at a price: an answer is bought once and kept."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.errors import ResourceError
from bench.evaluate.judges.answer import parse_answer
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.cache import Answer, Reading, VerdictCache, question_key
from bench.records import VerdictLabel

_SHOWN = 80  # characters of each end of an answer in a message
_ENDED = {"cut_off": ", cut off", "refused": ", a refusal", "filtered": ", filtered", "unfinished": ", end not known"}


@dataclass
class JudgeUsage:
    """What a judge has used up in this run. A question is a post with two different summaries in one order.

    Attributes:
        requests: sent, those that failed included; a local model's forward passes or generations.
        retries: requests that repeated one that failed.
        cached: questions whose answer an earlier run has bought.
        prompt_tokens, completion_tokens: read and written by the model, of this run's requests.
        unparsed: questions whose answer names no summary, cached ones included. Among them are those that were
            cut_off (at max_answer_tokens), refused (by the model), filtered (by the endpoint), unfinished (the server
            does not say how the answer ended), and empty (however often asked; not kept).
    """

    requests: int = 0
    retries: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unparsed: int = 0
    cut_off: int = 0
    refused: int = 0
    filtered: int = 0
    unfinished: int = 0
    empty: int = 0

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class AskingJudge(ABC):
    """A judge that would like all questions of a run at once; what it has answered costs nothing again.

    Every question is asked once, however many items repeat it, and its answer is kept on disk as it arrives. An
    answer that names no summary is kept too and not asked for again: asking until an answer suits would choose among
    answers. Only an answer that is finished is read. Two equal summaries tie without being shown.

    Args:
        key: where its settings are, for messages: `judge.openai`.
        asked: who is asked and how, everything but the texts that an answer depends on. The name is not among it: two
            judges that ask the same buy one answer.
        max_unparsed_in_a_row: so many new answers in a row that name no summary end the run; None lets it go on.
    """

    def __init__(
        self,
        name: str,
        key: str,
        prompt_hash: str,
        cache: VerdictCache,
        asked: Mapping[str, Any],
        reading: Reading,
        max_unparsed_in_a_row: int | None,
    ) -> None:
        self.name = name
        self.key = key
        self.prompt_hash = prompt_hash
        self.usage = JudgeUsage()
        self.cache = cache
        self._reading: Reading = reading
        self._counting = threading.Lock()
        self._asked = {"prompt_hash": prompt_hash, **asked}
        self._labels: dict[str, VerdictLabel] = {}
        self._max_unparsed, self._unparsed_in_a_row = max_unparsed_in_a_row, 0

    def judge(self, items: Sequence[JudgeItem]) -> list[VerdictLabel]:
        """One verdict per item: "a" means the first shown is better, "b" the second.

        Raises:
            ResourceError: answers are missing that could not be had, or too many in a row name no summary; those that
                were had are kept.
        """
        keys = [self._question_key(item) for item in items]
        self._have_answered(items)
        return [
            "tie" if item.first == item.second else self._labels[key] for key, item in zip(keys, items, strict=True)
        ]

    def _question_key(self, item: JudgeItem) -> str:
        return question_key(self._asked, item)

    def _have_answered(self, items: Sequence[JudgeItem]) -> None:
        """See to it that every item's question has its label, from the cache or by asking."""
        questions = {
            key: item
            for item in items
            if item.first != item.second and (key := self._question_key(item)) not in self._labels
        }
        cached = self.cache.get(list(questions))
        for key, answer in cached.items():
            self._note(key, answer)
        self.usage.cached += len(cached)
        if missing := {key: item for key, item in questions.items() if key not in cached}:
            self.ask(missing)

    @abstractmethod
    def ask(self, questions: Mapping[str, JudgeItem]) -> None:
        """Have every question answered, giving each answer to `keep` as it arrives."""

    @abstractmethod
    def advice(self, answer: Answer) -> str:
        """What to change where answers like this one come again and again."""

    def read(self, answer: str) -> VerdictLabel:
        """What a finished answer says."""
        return parse_answer(answer, ties=self._reading == "text_or_tie")

    def keep(self, key: str, answer: Answer, prompt_tokens: int, completion_tokens: int) -> None:
        """Put one answer on disk and count what it took; several threads may call this.

        Raises:
            ResourceError: it is the last of too many in a row that name no summary.
        """
        kept = self.cache.put(
            key,
            answer,
            judge=self.name,
            prompt_hash=self.prompt_hash,
            reading=self._reading,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
        with self._counting:
            self.usage.prompt_tokens += prompt_tokens
            self.usage.completion_tokens += completion_tokens
            self._note(key, kept)
            self._watch(key, kept)

    def pass_over(self, key: str) -> None:
        """Count a question as unparsed whose answer stayed empty; it is not kept, so that another run asks again."""
        with self._counting:
            self._labels[key] = "unparsed"
            self.usage.unparsed += 1
            self.usage.empty += 1
            self._watch(key, Answer(""))

    def stopped(self, error: ResourceError, questions: Mapping[str, JudgeItem]) -> ResourceError:
        """`error` with what it leaves behind."""
        kept = len(self.cache.get(list(questions)))
        return ResourceError(
            f"judge {self.name}: {error}; {kept} of the {len(questions)} verdicts asked for are kept in"
            f" {self.cache.path}, and the same command goes on from there"
        )

    def _note(self, key: str, answer: Answer) -> None:
        is_finished = answer.outcome == "finished"
        self._labels[key] = label = self.read(answer.text) if is_finished else "unparsed"
        self.usage.unparsed += label == "unparsed"
        if not is_finished:
            setattr(self.usage, answer.outcome, getattr(self.usage, answer.outcome) + 1)

    def _watch(self, key: str, answer: Answer) -> None:
        """Raise ResourceError where nothing that comes in can be read: the rest would be money for nothing."""
        self._unparsed_in_a_row = self._unparsed_in_a_row + 1 if self._labels[key] == "unparsed" else 0
        if self._unparsed_in_a_row == self._max_unparsed:
            raise ResourceError(
                f"{self._max_unparsed} answers in a row name no summary, the last one: {_shortened(answer.text)}"
                f"{_ENDED.get(answer.outcome, '')}; {self.advice(answer)}; {self.key}.max_unparsed_in_a_row=null goes"
                " on all the same"
            )


def _shortened(answer: str) -> str:
    """The two ends of an answer on one line, without what a terminal would obey."""
    text = " ".join("".join(char if char.isprintable() else " " for char in answer).split())
    return repr(text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]} ... {text[-_SHOWN:]}")
