"""Networks in shares (FSDP 2): each of n processes holds 1/n of every weight, gradient and optimizer state.

A transformer block's weights are gathered for its pass and let go after it; its gradients are summed over the
processes, as `bench.train.ranks` sums those of whole networks. What stands beside the backbone, the projection to the
vocabulary and scalar heads, is gathered where it is used (`bench.forward`). Weights and optimizer are fp32; in bf16 the
blocks compute in bf16 and gradients are summed in fp32.
"""

import copy

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from transformers import PreTrainedModel

from bench import processes
from bench.errors import ConfigError
from bench.paths import Paths
from bench.train.recompute import blocks_of


def mesh_of_all(device: torch.device) -> DeviceMesh:
    """All processes of the run."""
    processes.connect(device)
    return init_device_mesh(device.type, (processes.count(),))


def shard(network: nn.Module, mesh: DeviceMesh, bf16: bool) -> None:
    """Leave this process its share of the network, on the mesh's device. The network may come from another device.

    Raises:
        ConfigError: its logits are no plain product with its head, which is all that can be gathered.
    """
    if isinstance(network, PreTrainedModel):
        if not Paths.of(network).linear_head:
            raise ConfigError(
                f"{type(network).__name__} computes its logits in a way of its own, for which whole weights are needed;"
                " launch without FSDP or DeepSpeed"
            )
        _shard_backbone(network, mesh, bf16)
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not isinstance(parameter, DTensor):
                share = distribute_tensor(parameter.detach().to(mesh.device_type), mesh, [Shard(0)])
                module.register_parameter(name, nn.Parameter(share, parameter.requires_grad))


def _shard_backbone(network: PreTrainedModel, mesh: DeviceMesh, bf16: bool) -> None:
    backbone = network.base_model
    head = network.get_output_embeddings()
    is_tied = head is not None and head.weight is network.get_input_embeddings().weight
    precision = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    units = blocks_of(network)
    for module in [*units, backbone]:
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=precision)
        assert isinstance(module, FSDPModule)
        module.set_force_sum_reduction_for_comms(True)  # the sum, not the mean; and gloo knows no other way
        module.set_gradient_divide_factor(1.0)
    for module in [*units, backbone]:
        # What is gathered first notes which weights learn; peft may have turned them off for the reference by then.
        assert isinstance(module, FSDPModule)
        module.unshard()
        module.reshard()
    if head is not None and is_tied:
        head.weight = network.get_input_embeddings().weight


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor of which each process holds a share, put together; one that is whole as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class Skeleton:
    """A network's modules without weights, taken before it is sharded, to be filled with the gathered ones."""

    def __init__(self, network: nn.Module) -> None:
        empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in network.parameters()}
        self._modules = copy.deepcopy(network, empty)

    @torch.no_grad()
    def filled(self, network: nn.Module, device: torch.device, dtype: torch.dtype, keep: bool = True) -> nn.Module:
        """A copy with the weights that `network` has now. Every process must call it.

        Args:
            keep: False gives this process an empty copy.
        """
        whole: dict[str, nn.Parameter] = {}
        seen: dict[int, nn.Parameter] = {}  # a weight in two places stays one
        for name, parameter in network.named_parameters(remove_duplicate=False):
            if id(parameter) not in seen:
                gathered = whole_tensor(parameter)
                kept = gathered.to(device, dtype) if keep else torch.empty(0)
                seen[id(parameter)] = nn.Parameter(kept, requires_grad=False)
            whole[name] = seen[id(parameter)]
        copied = copy.deepcopy(self._modules)
        if not keep:
            return copied
        for place, module in copied.named_modules():
            for name, _ in list(module.named_parameters(recurse=False)):
                module.register_parameter(name, whole[f"{place}.{name}" if place else name])
        return copied.to(device)
