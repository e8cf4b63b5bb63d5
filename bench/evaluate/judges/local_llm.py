"""A causal language model in this process as the judge, by the likelihood of its verdict or by what it writes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from jinja2 import TemplateError
from torch import nn
from transformers import PreTrainedModel

from bench.errors import ConfigError, DataError, ResourceError
from bench.evaluate.judges.asking import AskingJudge
from bench.evaluate.judges.base import JudgeItem, mirror
from bench.evaluate.judges.cache import Answer, VerdictCache
from bench.evaluate.judges.config import LocalLLMJudgeConfig
from bench.evaluate.judges.template import answer_format, folded, load_template
from bench.generation import SamplingConfig, decode, sample_all
from bench.models.config import ModelConfig
from bench.models.loading import base_model, base_tokenizer, folder_content, pick_device, to_bf16_weights, use_bf16
from bench.models.probe import probe
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

    `likelihood` compares log p of the two letters where the verdicts of the answer format first differ; `text`
    generates greedily and parses what is written.

    Of a likelihood, a verdict is made in one of two ways. `as_shown`: the difference log p(A) - log p(B) less `offset`
    decides, each order for itself, so that two orders can disagree. `free` (of position): the mean of the two orders'
    log-odds decides, in which whatever a model adds to the letter A cancels out; both orders are asked, and they agree.
    Either way at most `tie_margin` nats are a tie.

    Args:
        wheels: where the wheels of `kind: wheel` are kept.

    Raises:
        ResourceError: the model is neither here nor to be had.
    """

    def __init__(
        self,
        config: LocalLLMJudgeConfig,
        cache: VerdictCache,
        wheels: Path,
        name: str = "local_llm",
        key: str = LocalLLMJudgeConfig.home,
    ) -> None:
        by_text = config.method == "text"
        how = answer_format(by_text and config.compare_first, config.allow_ties)
        template = load_template(config.prompt, f"{key}.prompt", how, verbatim=config.verbatim)
        self._device = pick_device(config.device)
        self._bf16 = use_bf16(config.precision, self._device)
        asked = {
            "judge": "local_llm",
            "model": config.name,
            "revision": config.revision,
            "method": config.method,
            "bf16": self._bf16,
            "max_answer_tokens": config.max_answer_tokens if by_text else None,
            "letters": None if by_text else "fp32",
            **({"content": content} if (content := folder_content(config.name)) else {}),
        }
        reading = ("text_or_tie" if config.allow_ties else "text") if by_text else "log_odds"
        super().__init__(name, key, template.hash, cache, asked, reading, config.max_unparsed_in_a_row)
        self._config, self._template, self._wheels = config, template, wheels
        self._source = ModelConfig(kind=config.kind, name=config.name, revision=config.revision)
        self._tokenizer = base_tokenizer(self._source, (), wheels)
        self._differences: dict[str, float] = {}  # log p(A) - log p(B), by question

    @property
    def has_log_odds(self) -> bool:
        return self._config.method == "likelihood"

    def judge(self, items: Sequence[JudgeItem]) -> list[VerdictLabel]:
        """As in `AskingJudge`; with `position: free`, an item's other order is asked too."""
        if self._config.position == "as_shown":
            return super().judge(items)
        as_shown, mirrored = self.log_odds(items), self.log_odds([mirror(item) for item in items])
        return [
            "tie" if item.first == item.second else self._decided((one - other) / 2)
            for item, one, other in zip(items, as_shown, mirrored, strict=True)
        ]

    def log_odds(self, items: Sequence[JudgeItem]) -> list[float]:
        """log p(A) - log p(B) of each item as it is shown, in nats; 0 for equal summaries, which are not asked about.

        Raises:
            ResourceError: as `judge`.
        """
        self._have_answered([*items, *map(mirror, items)] if self._config.position == "free" else items)
        return [0.0 if item.first == item.second else self._differences[self._question_key(item)] for item in items]

    def read(self, answer: str) -> VerdictLabel:
        """The stored answer is the text, or the difference log p(A) - log p(B) in nats."""
        if not self.has_log_odds:
            return super().read(answer)
        return self._decided(float(answer) - self._config.offset)

    def advice(self, answer: Answer) -> str:
        if answer.outcome == "cut_off":
            limit = self._config.max_answer_tokens
            return f"raise {self.key}.max_answer_tokens ({limit} now): a model that thinks needs thousands"
        return f"try {self.key}.method=likelihood, {self.key}.compare_first=false or a stronger model ({self.key}.name)"

    def _decided(self, difference: float) -> VerdictLabel:
        if math.isnan(difference):
            return "unparsed"
        if abs(difference) <= self._config.tie_margin:
            return "tie"
        return "a" if difference > 0 else "b"

    def _note(self, key: str, answer: Answer) -> None:
        if self.has_log_odds:
            self._differences[key] = float(answer.text)
        super()._note(key, answer)

    def ask(self, questions: Mapping[str, JudgeItem]) -> None:
        encoded = [self._encode(key, item) for key, item in questions.items()]
        self._require_context(encoded)
        answers = self._written if self._config.method == "text" else self._preferences
        try:
            with StageBar(f"judge {self.name}", len(questions), "verdicts") as bar:
                for batch in self._batches(encoded):
                    self.usage.requests += len(batch)
                    for question, (answer, tokens) in zip(batch, answers(batch), strict=True):
                        self.keep(question.key, answer, len(question.ids), tokens)
                    bar.update(len(batch), unparsed=self.usage.unparsed)
        except ResourceError as error:
            raise self.stopped(error, questions) from None

    def unload(self) -> None:
        """Leave the model; what it said is remembered."""
        vars(self).pop("_model", None)

    @cached_property
    def _model(self) -> PreTrainedModel:
        model = base_model(self._source, self._tokenizer, seed=0, cache_dir=self._wheels)
        if self._config.method == "text":  # the likelihood takes no fast way
            probe(model, self._source.name)
        if self._bf16:
            to_bf16_weights(model)
        nn.Module.to(model, self._device)
        return model.eval()

    def _encode(self, key: str, item: JudgeItem) -> _Question:
        messages = self._template.messages(item)
        messages = [{**message, "content": self._disarmed(message["content"])} for message in messages]
        has_template = bool(self._tokenizer.chat_template)
        text = self._chat(messages) if has_template else "".join(f"{message['content']}\n\n" for message in messages)
        # A chat template writes the special tokens itself.
        encode = partial(self._tokenizer, add_special_tokens=not has_template)
        a, b = (encode(f"{text}{verdict}").input_ids for verdict in _VERDICTS)
        shared = next(i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1])
        ids = encode(text).input_ids if self._config.method == "text" else a[:shared]
        return _Question(key, item.prompt_id, ids, (a[shared], b[shared]))

    def _chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The conversation in the model's own format; templates without a system role get its text from the user.

        Raises:
            ConfigError: the template takes no conversation like this.
        """
        *system, question = messages
        conversations = [messages, [folded(system[0]["content"], question)]] if system else [messages]
        problem = ""
        for conversation in conversations:
            try:
                text = str(
                    self._tokenizer.apply_chat_template(
                        [dict(message) for message in conversation],
                        tokenize=False,
                        add_generation_prompt=True,
                        enable_thinking=not self.has_log_odds,  # known to some templates: a letter comes at once
                    )
                )
            except TemplateError as error:
                problem = f": {error}"
                continue
            if all(message["content"].strip() in text for message in conversation):  # some leave the system text out
                return text
        raise ConfigError(f"{self.key}.name: the chat template of {self._config.name} takes no question{problem}")

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
                f"judge {self.name}: prompt {longest.prompt_id!r} needs {needed} tokens, {self._config.name} has"
                f" {room} positions; shorten the posts (budget.max_prompt_tokens) or choose another model"
            )

    def _batches(self, questions: Sequence[_Question]) -> Iterator[Sequence[_Question]]:
        """Similar lengths together, the longest first: what does not fit into memory shows at once."""
        ordered = sorted(questions, key=lambda question: -len(question.ids))
        for start in range(0, len(ordered), self._config.batch_size):
            yield ordered[start : start + self._config.batch_size]

    @torch.no_grad()
    def _preferences(self, batch: Sequence[_Question]) -> list[tuple[Answer, int]]:
        """log p(A) - log p(B) where the verdict's letter comes, in nats, and the tokens written: none."""
        lengths = torch.tensor([len(question.ids) for question in batch])
        # Padded on the right: under causal attention no real token sees a pad behind it.
        ids = torch.full((len(batch), int(lengths.max())), pad_id(self._tokenizer))
        for row, question in enumerate(batch):
            ids[row, : len(question.ids)] = torch.tensor(question.ids)
        hidden = self._model.base_model(input_ids=ids.to(self._device), use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(batch)), lengths - 1]
        letters = torch.tensor([question.letters for question in batch], device=self._device)
        a, b = self._letter_logits(last, letters).unbind(1)  # the softmax's normaliser cancels in the difference
        return [(Answer(repr(difference)), 0) for difference in (a - b).tolist()]

    def _letter_logits(self, last: torch.Tensor, letters: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2) of the two letters (B, 2) from the last hidden states (B, H), in fp32.

        In bf16 a logit of 16 to 32 is a multiple of 0.125: differences between letters would be too.
        """
        head, config = self._model.get_output_embeddings(), self._model.config
        assert head is not None
        weight, bias = head.weight, getattr(head, "bias", None)
        assert isinstance(weight, torch.Tensor)
        logits = torch.einsum("bh,blh->bl", last.float(), weight[letters].float())
        if bias is not None:
            logits += bias[letters].float()
        # What some models do to their logits behind the head.
        if isinstance(scale := getattr(config, "logit_scale", None), (int, float)):  # Cohere
            logits = logits * scale
        if isinstance(scale := getattr(config, "logits_scaling", None), (int, float)):  # Granite
            logits = logits / scale
        if isinstance(cap := getattr(config, "final_logit_softcapping", None), (int, float)):  # Gemma 2
            logits = cap * torch.tanh(logits / cap)
        return logits

    def _written(self, batch: Sequence[_Question]) -> list[tuple[Answer, int]]:
        """The greedy answers, and their lengths in tokens."""
        answers = sample_all(
            self._model,
            self._tokenizer,
            [question.ids for question in batch],
            sampling=SamplingConfig(temperature=0.0, batch_size=len(batch)),
            max_new_tokens=self._config.max_answer_tokens,
            generator=torch.Generator(self._device),
        )
        return [
            (Answer(decode(self._tokenizer, ids), "finished" if is_finished else "cut_off"), len(ids))
            for ids, is_finished in answers
        ]
