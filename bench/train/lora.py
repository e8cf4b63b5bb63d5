"""LoRA (Hu et al. 2021): low-rank adapters in every linear layer of a backbone, whose own weights are frozen."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from bench.train.settings.common import OptimizerSettings


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


def frozen_to_bf16(network: PreTrainedModel) -> None:
    """Make the weights that are not trained bf16."""
    for parameter in _frozen(network):
        parameter.data = parameter.data.bfloat16()


def _frozen(network: PreTrainedModel) -> list[torch.nn.Parameter]:
    return [parameter for parameter in network.parameters() if not parameter.requires_grad]


class FrozenInBf16:
    """Makes the frozen weights of a network with adapters bf16, to be run under autocast; the fp32 ones, to which the
    adapters are added in the end, wait in main memory."""

    def __init__(self, network: PreTrainedModel) -> None:
        self._whole = {p: p.detach().to("cpu", copy=True) for p in _frozen(network)}
        frozen_to_bf16(network)

    def round_again(self) -> None:
        """Undo what merging adapters into the bf16 weights and taking them out again has rounded."""
        for parameter, whole in self._whole.items():
            parameter.data.copy_(whole)

    def restore(self) -> None:
        for parameter, whole in self._whole.items():
            parameter.data = whole.to(parameter.device)


@contextmanager
def adapted(network: PreTrainedModel, settings: OptimizerSettings, seed: int, bf16: bool) -> Iterator[None]:
    """Within it adapters alone are trained, if `lora_rank` asks for them; at its end they are in the weights.

    Args:
        bf16: the frozen weights are so meanwhile (`FrozenInBf16`).
    """
    if not settings.lora_rank:
        yield
        return
    adapter = put_adapters(network, settings, seed)
    frozen = FrozenInBf16(network) if bf16 else None
    yield
    if frozen is not None:
        frozen.restore()
    adapter.merge_and_unload()
    network.requires_grad_(True)
