"""A causal language model in this process as the judge, by the likelihood of its verdict or by what it writes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.errors import DataError
from bench.evaluate.judges.answer import parse_answer
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import JudgeItem
from bench.evaluate.judges.cache import VerdictCache
from bench.evaluate.judges.config import LocalLLMJudgeConfig
from bench.evaluate.judges.template import COMPARE_FIRST, VERDICT_ONLY, load_template
from bench.forward import lm_head
from bench.generation import SamplingConfig, decode, sample_all
from bench.models.config import ModelConfig
from bench.models.loading import base_model, base_tokenizer, pick_device, to_bf16_weights, use_bf16
from bench.progress import StageBar
from bench.records import VerdictLabel
from bench.special_tokens import pad_id

_VERDICTS = ('Preferred: "A"', 'Preferred: "B"')
"""The two answers of the answer format."""


@dataclass(frozen=True)
class _Question:
    """Token ids of a conversation up to where the answer decides, and of the two letters that may come there."""

    key: str
    prompt_id: str
    ids: list[int]
    letters: tuple[int, int]


class LocalLLMJudge(AskingJudge):
    """Asks a model of transformers, which is loaded when the first question comes that the cache cannot answer.

    `likelihood` compares log p of the two letters where the verdicts of the answer format first differ; a difference
    of at most `tie_margin` nats ties. `text` generates greedily and parses what is written.

    Args:
        wheels: where the wheels of `kind: wheel` are kept.

    Raises:
        ResourceError: the model is neither here nor to be had.
    """

    def __init__(self, config: LocalLLMJudgeConfig, cache: VerdictCache, wheels: Path) -> None:
        by_text = config.method == "text"
        answer_format = COMPARE_FIRST if by_text and config.compare_first else VERDICT_ONLY
        template = load_template(config.prompt, "judge.local_llm.prompt", answer_format)
        self._device = pick_device(config.device)
        self._bf16 = use_bf16(config.precision, self._device)
        asked = {
            "model": config.name,
            "revision": config.revision,
            "method": config.method,
            "bf16": self._bf16,
            "max_answer_tokens": config.max_answer_tokens if by_text else None,
        }
        super().__init__("local_llm", template.hash, cache, asked)
        self._config, self._template, self._wheels = config, template, wheels
        self._source = ModelConfig(kind=config.kind, name=config.name, revision=config.revision)
        self._tokenizer = base_tokenizer(self._source, (), wheels)

    def read(self, answer: str) -> VerdictLabel:
        """The stored answer is the text, or the difference log p(A) - log p(B) in nats."""
        if self._config.method == "text":
            return parse_answer(answer)
        difference = float(answer)
        if math.isnan(difference):
            return "unparsed"
        if abs(difference) <= self._config.tie_margin:
            return "tie"
        return "a" if difference > 0 else "b"

    def ask(self, questions: Mapping[str, JudgeItem]) -> None:
        encoded = [self._encode(key, item) for key, item in questions.items()]
        self._require_context(encoded)
        answers = self._written if self._config.method == "text" else self._preferences
        with StageBar(f"judge {self.name}", len(questions), "verdicts") as bar:
            for batch in self._batches(encoded):
                self.usage.requests += len(batch)
                for question, (answer, tokens) in zip(batch, answers(batch), strict=True):
                    self.keep(question.key, answer, len(question.ids), tokens)
                bar.update(len(batch), unparsed=self.usage.unparsed)

    @cached_property
    def _model(self) -> PreTrainedModel:
        model = base_model(self._source, self._tokenizer, seed=0, cache_dir=self._wheels)
        if self._bf16:
            to_bf16_weights(model)
        nn.Module.to(model, self._device)
        return model.eval()

    def _encode(self, key: str, item: JudgeItem) -> _Question:
        messages = self._template.messages(item)
        messages = [{**message, "content": self._disarmed(message["content"])} for message in messages]
        has_template = bool(self._tokenizer.chat_template)
        if has_template:
            text = str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        else:
            text = "".join(f"{message['content']}\n\n" for message in messages)
        # A chat template writes the special tokens itself.
        encode = partial(self._tokenizer, add_special_tokens=not has_template)
        a, b = (encode(f"{text}{verdict}").input_ids for verdict in _VERDICTS)
        shared = next(i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1])
        ids = encode(text).input_ids if self._config.method == "text" else a[:shared]
        return _Question(key, item.prompt_id, ids, (a[shared], b[shared]))

    def _disarmed(self, text: str) -> str:
        """`text` without special tokens: one in a post could end the user's turn and begin another."""
        for token in self._tokenizer.added_tokens_decoder.values():
            text = text.replace(token.content, f"{token.content[0]} {token.content[1:]}")
        return text

    def _require_context(self, questions: Sequence[_Question]) -> None:
        room = getattr(self._model.config, "max_position_embeddings", None)
        longest = max(questions, key=lambda question: len(question.ids))
        needed = len(longest.ids) + (self._config.max_answer_tokens if self._config.method == "text" else 0)
        if room is not None and needed > room:
            raise DataError(
                f"judge local_llm: prompt {longest.prompt_id!r} needs {needed} tokens, {self._config.name} has"
                f" {room} positions; shorten the posts (budget.max_prompt_tokens) or choose another model"
            )

    def _batches(self, questions: Sequence[_Question]) -> Iterator[Sequence[_Question]]:
        """Similar lengths together, the longest first: what does not fit into memory shows at once."""
        ordered = sorted(questions, key=lambda question: -len(question.ids))
        for start in range(0, len(ordered), self._config.batch_size):
            yield ordered[start : start + self._config.batch_size]

    @torch.no_grad()
    def _preferences(self, batch: Sequence[_Question]) -> list[tuple[str, int]]:
        """log p(A) - log p(B) where the verdict's letter comes, in nats, and the tokens written: none."""
        lengths = torch.tensor([len(question.ids) for question in batch])
        # Padded on the right: under causal attention no real token sees a pad behind it.
        ids = torch.full((len(batch), int(lengths.max())), pad_id(self._tokenizer))
        for row, question in enumerate(batch):
            ids[row, : len(question.ids)] = torch.tensor(question.ids)
        hidden = self._model.base_model(input_ids=ids.to(self._device), use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(batch)), lengths - 1]
        logits = lm_head(self._model)(last).float()
        letters = torch.tensor([question.letters for question in batch], device=self._device)
        a, b = logits.gather(1, letters).unbind(1)  # the softmax's normaliser cancels in the difference
        return [(repr(difference), 0) for difference in (a - b).tolist()]

    def _written(self, batch: Sequence[_Question]) -> list[tuple[str, int]]:
        """The greedy answers, and their lengths in tokens."""
        answers = sample_all(
            self._model,
            self._tokenizer,
            [question.ids for question in batch],
            sampling=SamplingConfig(temperature=0.0, batch_size=len(batch)),
            max_new_tokens=self._config.max_answer_tokens,
            generator=torch.Generator(self._device),
        )
        return [(decode(self._tokenizer, ids), len(ids)) for ids, _ in answers]
