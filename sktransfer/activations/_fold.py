"""Faster copies of frozen sections: BatchNorm folded, weights in bfloat16."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norm(section: Any) -> nn.Module:
    """Copy a section, with each BatchNorm folded into the convolution before it.

    The copy computes the same up to rounding and shares no tensor with the section,
    which is in eval mode. A pair is not folded if anything else reads one of its
    weights: a second call, a layer that shares it, or a function of the forward pass. A
    section without a graph, because it was not traced, is copied as it is.
    """
    if getattr(section, "graph", None) is None:
        return copy.deepcopy(section).eval()
    network = copy.deepcopy(fx.GraphModule(section, section.graph)).eval()
    layers = dict(network.named_modules())
    calls = Counter(n.target for n in network.graph.nodes if n.op == "call_module")
    uses = count_uses(network)
    for node in list(network.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        convolution, norm = layers[before.target], layers[node.target]
        alone = len(before.users) == calls[before.target] == calls[node.target] == 1
        alone = alone and uses[convolution] == uses[norm] == 1
        if not (alone and is_plain_convolution(convolution) and _is_fixed(norm)):
            continue
        _fold(convolution, norm)
        if after := _after(norm):
            network.set_submodule(node.target, after)
        else:
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.recompile()
    network.delete_all_unused_submodules()
    return network


def count_uses(network: Any) -> dict[Any, int]:
    """Count, for each layer of a network, how often its tensors are read.

    The count is 1 if only the layer itself reads them, under one path. The graph of a
    ``torch.fx.GraphModule`` may read tensors as well.
    """
    readers = [
        [*layer._parameters.values(), *layer._buffers.values()]
        for _, layer in network.named_modules(remove_duplicate=False)
    ]
    nodes = getattr(network, "graph", fx.Graph()).nodes
    paths = (node.target for node in nodes if node.op == "get_attr")
    readers += [[_get(network, path)] for path in paths]
    counts = Counter(p for tensors in readers for p in {*map(_place, tensors)})
    return {
        layer: max((counts[_place(t)] for t in own if t is not None), default=1)
        for layer in network.modules()
        for own in [[*layer._parameters.values(), *layer._buffers.values()]]
    }


def _get(network, path):
    parent, _, name = path.rpartition(".")
    return getattr(network.get_submodule(parent), name)


def _place(tensor):
    """Return the address of a tensor's memory, which its views share."""
    if not isinstance(tensor, torch.Tensor):
        return None
    return tensor.untyped_storage().data_ptr()


def is_plain(layer: nn.Module) -> bool:
    """Return whether a layer has no hooks, and no method replaced on the instance."""
    own, kind = vars(layer), type(layer)
    hooks = [name for name in own if name.endswith("_hooks") and own[name]]
    return not hooks and not any(callable(getattr(kind, name, None)) for name in own)


def is_plain_convolution(layer: Any) -> bool:
    """Return whether a layer is a convolution that uses its weight unchanged.

    Subclasses and hooks may change the weight first, so they do not count.
    """
    from timm.layers import Conv2dSame

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame)
    return type(layer) in kinds and is_plain(layer)


def _is_fixed(layer):
    """Whether a layer is a BatchNorm with running statistics, perhaps activated."""
    from timm.layers import BatchNormAct2d

    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)
    return type(layer) in kinds and layer.running_mean is not None and is_plain(layer)


def _fold(convolution, norm):
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )


def _after(norm):
    """Return what follows the norm inside timm's BatchNorm, None if nothing does."""
    if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return None
    parts = [p for p in (norm.drop, norm.act) if not isinstance(p, nn.Identity)]
    return nn.Sequential(*parts) if parts else None


def halve(network: Any) -> nn.Module:
    """Convert convolutions and linear layers to bfloat16, in place.

    Layers that change their weights before use, or share them, stay in float32. The
    network, which is returned, must run under :class:`torch.autocast`.
    """
    for layer, uses in count_uses(network).items():
        if uses > 1:
            continue
        if is_plain_convolution(layer):
            layer.weight = nn.Parameter(round_kernels(layer.weight.detach()), False)
            layer.to(torch.bfloat16)
        elif type(layer) is nn.Linear and is_plain(layer):
            layer.to(torch.bfloat16)
    return network


def round_kernels(weight: torch.Tensor) -> torch.Tensor:
    """Round kernels (c_out, c_in, ...) to bfloat16 such that their sums hardly change.

    Neighbouring pixels are similar, so kernels that detect differences cancel almost
    all of their input, and rounding each weight alone makes a large error relative to
    the result. Here each weight, from the largest to the smallest, takes over the
    rounding error of the previous one. The result is float32, of values that bfloat16
    represents exactly.
    """
    taps = weight.flatten(2)  # (c_out, c_in, t)
    largest_first = taps.abs().argsort(2, descending=True)
    rounded, lost = torch.empty_like(taps), torch.zeros_like(taps[..., 0])
    for tap in largest_first.split(1, dim=2):
        wanted = taps.gather(2, tap)[..., 0] + lost
        near = wanted.bfloat16().float()
        rounded.scatter_(2, tap, near[..., None])
        lost = wanted - near
    return rounded.view_as(weight)
