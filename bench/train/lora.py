"""LoRA (Hu et al. 2021): low-rank adapters in every linear layer of a backbone, whose own weights are frozen."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from bench.errors import ConfigError
from bench.train.settings.common import OptimizerSettings

_LORA = ".lora_"  # in the names of the adapters' weights, as peft has it
_NF4_ERROR = 0.2  # of a block's largest number: half of the widest gap, 0.15, and what its scale is rounded by


def put_adapters(network: PreTrainedModel, settings: OptimizerSettings, seed: int) -> PeftModel:
    """Adapters in place: `network` itself runs through them afterwards. At first they change no output.

    Args:
        seed: of the adapters' first weights.
    """
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules="all-linear",
        exclude_modules=["score"] if hasattr(network, "score") else None,  # the LM head is left out anyway
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = get_peft_model(network, config)
    assert isinstance(adapter, PeftModel)
    if hasattr(network, "score"):
        network.score.requires_grad_(True)  # small, and it sets the scale of scores and values
    return adapter


@contextmanager
def without_adapters(network: PreTrainedModel) -> Iterator[None]:
    """Within it the network is what it was before training. `requires_grad` stays, unlike with peft's own switch."""
    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def has_adapters(network: PreTrainedModel) -> bool:
    return any(isinstance(module, LoraLayer) for module in network.modules())


def save_adapters(network: PreTrainedModel, file: Path) -> None:
    """The adapters' weights, and what they are scaled by, as safetensors."""
    layer = next(module for module in network.modules() if isinstance(module, LoraLayer))
    (name,) = layer.r
    scale = {"rank": str(layer.r[name]), "alpha": str(layer.lora_alpha[name])}
    weights = {name: p.detach().contiguous() for name, p in network.named_parameters() if _LORA in name}
    save_file(weights, file, scale)


def merge_adapters(network: PreTrainedModel, file: Path) -> PreTrainedModel:
    """The network, of the kind that `save_adapters` was given, with the saved adapters in its weights."""
    with safe_open(file, "pt") as saved:
        scale = saved.metadata()
        settings = OptimizerSettings(lora_rank=int(scale["rank"]), lora_alpha=int(scale["alpha"]))
        adapter = put_adapters(network, settings, seed=0)
        weights = {name: p for name, p in network.named_parameters() if _LORA in name}
        assert weights.keys() == set(saved.keys())
        for name, parameter in weights.items():
            parameter.data.copy_(saved.get_tensor(name))
    adapter.merge_and_unload()
    network.requires_grad_(True)
    return network


class Frozen:
    """Makes what lies beneath a network's adapters smaller for the time of the training.

    In bf16 the frozen weights are bf16, to be run under autocast; in 4 bits the linear layers that have adapters hold
    NF4 numbers (Dettmers et al. 2023), which every pass multiplies out. The fp32 weights, to which the adapters are
    added in the end, wait in main memory.
    """

    def __init__(self, network: PreTrainedModel, bf16: bool, four_bit: bool, restored: bool = True) -> None:
        """
        Args:
            restored: whether `restore` will be called; what is thrown away in the end need not wait anywhere.
        """
        self._layers: dict[LoraLayer, nn.Linear] = {}
        self._whole: dict[nn.Parameter, Tensor] = {}
        if four_bit:
            layers = _put_on_4_bits(network, bf16)
            self._layers = {layer: linear.cpu() for layer, linear in layers.items()} if restored else {}
        for parameter in _frozen(network) if bf16 else ():
            if restored:
                self._whole[parameter] = parameter.detach().to("cpu", copy=True)
            parameter.data = parameter.data.bfloat16()

    def round_again(self) -> None:
        """Undo what merging adapters into the bf16 weights and taking them out again has rounded."""
        for parameter, whole in self._whole.items():
            parameter.data.copy_(whole)

    def restore(self) -> None:
        for parameter, whole in self._whole.items():
            parameter.data = whole.to(parameter.device)
        for layer, whole in self._layers.items():
            device = layer.base_layer.weight.device
            assert isinstance(device, torch.device)
            layer.base_layer = whole.to(device)


def _frozen(network: PreTrainedModel) -> list[nn.Parameter]:
    return [p for p in network.parameters() if not p.requires_grad and p.is_floating_point()]


def require_4_bits(network: PreTrainedModel) -> None:
    """Try a layer of each shape.

    Raises:
        ConfigError: 4 bits do not hold the network here, or it has no layers that they are for.
    """
    layers = {m.weight.shape: m for m in network.base_model.modules() if isinstance(m, nn.Linear)}
    for layer in layers.values():
        _in_4_bits(layer, bf16=False)
    if not layers:
        raise ConfigError(f"lora_4bit: {type(network).__name__} has no plain linear layers; set it to false")


def _put_on_4_bits(network: PreTrainedModel, bf16: bool) -> dict[LoraLayer, nn.Linear]:
    """Put 4-bit layers beneath the adapters; what stood there, by adapter."""
    whole: dict[LoraLayer, nn.Linear] = {}
    for layer in network.modules():
        if isinstance(layer, LoraLayer) and isinstance(layer.base_layer, nn.Linear):
            whole[layer] = layer.base_layer
    for layer, linear in whole.items():
        layer.base_layer = _in_4_bits(linear, bf16)
    return whole


def _in_4_bits(linear: nn.Linear, bf16: bool) -> Any:
    nf4 = import_module("bitsandbytes.nn")
    dtype = torch.bfloat16 if bf16 else torch.float32
    size = linear.in_features, linear.out_features
    small = nf4.Linear4bit(*size, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta")
    if linear.bias is not None:  # a copy: the layer itself waits in main memory
        small.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
    weight = nf4.Params4bit(linear.weight.detach().clone(), requires_grad=False, quant_type="nf4")
    small.weight = weight.to(linear.weight.device)  # which quantises
    small.support_avx512bf16_for_cpu = False  # it would pack weights in a form that has no backward pass
    _require_near(small, linear)
    return small


def _require_near(small: Any, linear: nn.Linear) -> None:
    """
    Raises:
        ConfigError: what the 4 bits stand for is not the weights: bitsandbytes 0.50 has every row begin with the first
            block's scale on CPUs where rows are no multiple of a block.
    """
    state = small.weight.quant_state
    found = import_module("bitsandbytes.functional").dequantize_4bit(small.weight.data, state).float()
    whole = linear.weight.detach().float()
    blocks = [F.pad(x.flatten(), (0, -x.numel() % state.blocksize)).view(-1, state.blocksize) for x in (found, whole)]
    scale = blocks[1].abs().amax(1)
    if bool(((blocks[0] - blocks[1]).abs().amax(1) > _NF4_ERROR * scale).any()):
        raise ConfigError(
            f"lora_4bit: bitsandbytes does not hold a layer of {tuple(whole.shape)} right on {whole.device.type};"
            " set it to false"
        )


@contextmanager
def adapted(network: PreTrainedModel, settings: OptimizerSettings, seed: int, bf16: bool) -> Iterator[None]:
    """Within it adapters alone are trained, if `lora_rank` asks for them; at its end they are in the weights.

    Args:
        bf16: the frozen weights are so meanwhile (`Frozen`).
    """
    if not settings.lora_rank:
        yield
        return
    adapter = put_adapters(network, settings, seed)
    frozen = Frozen(network, bf16, settings.lora_4bit)
    yield
    frozen.restore()
    adapter.merge_and_unload()
    network.requires_grad_(True)
