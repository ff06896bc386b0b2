"""Convolutions with kernels in the layout that oneDNN computes with.

PyTorch brings the kernels of a convolution into that layout at every call, which is a
third of the time that one image takes. Frozen kernels never change, so it is done once.
The functions are those that torch.compile calls for frozen networks. They are no public
part of PyTorch, so they are tried before they are used.
"""

import operator
from collections import Counter
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.activations._fold import count_uses, is_plain, is_plain_convolution

# Activations that round nothing, and what oneDNN calls them.
_CLIPS: dict[type, tuple] = {
    nn.ReLU: ("relu", [], ""),
    nn.ReLU6: ("hardtanh", [0.0, 6.0], ""),
}
_NO_CLIP: tuple = ("none", [], "")
# What computes finite values from finite values.
_LAYERS = {nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.ReLU, nn.ReLU6, nn.Identity}
_LAYERS |= {nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten}
_LAYERS |= {nn.Sequential}
_FUNCTIONS = {operator.add, operator.iadd, torch.add, torch.relu, F.relu, F.relu6}
_FUNCTIONS |= {torch.flatten, torch.cat, F.adaptive_avg_pool2d}


class PackedConvolution(nn.Module):
    """Frozen convolution, perhaps with a clipping activation; it equals the layers.

    Nothing in it changes, so a copy is the object itself.
    """

    def __init__(self, layer: Any, clip: tuple = _NO_CLIP):
        super().__init__()
        self._dtype = layer.weight.dtype
        self._pad = _padding_of(layer)
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._how = layer.padding, layer.stride, layer.dilation, layer.groups
        kernels = layer.weight.detach().to_mkldnn()
        self._kernels = torch._C._nn.mkldnn_reorder_conv2d_weight(kernels, *self._how)
        self._clip = clip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute activations (n, c, h, w), with the channels last in memory."""
        x = self._pad(x.to(self._dtype, memory_format=torch.channels_last))
        how = self._bias, *self._how, *self._clip
        return torch.ops.mkldnn._convolution_pointwise(x, self._kernels, *how)

    def __deepcopy__(self, memo):
        return self

    def extra_repr(self) -> str:
        """Return the name of the activation, for the representation."""
        return self._clip[0]


def _padding_of(layer):
    """Return the padding that a layer of timm applies before it convolves."""
    from timm.layers import Conv2dSame, pad_same

    if not isinstance(layer, Conv2dSame):
        return nn.Identity()
    how = layer.kernel_size, layer.stride, layer.dilation
    return lambda x: pad_same(x, *how)


def pack_convolutions(network: Any, *, may_clip: bool) -> Any:
    """Pack the convolutions of a frozen network on the CPU, in place; return it.

    Networks without a graph stay as they are, as their code may read the kernels, and
    so do convolutions that are used twice. oneDNN clips NaN to a number, so activations
    are computed with the convolution only if `may_clip`; see :func:`stays_finite`.
    """
    graph = getattr(network, "graph", None)
    if graph is None:
        return network
    layers, uses = dict(network.named_modules()), count_uses(network)
    nodes = [node for node in graph.nodes if node.op == "call_module"]
    calls = Counter(node.target for node in nodes)
    for node in nodes:
        layer = layers[node.target]
        if calls[node.target] > 1 or uses[layer] > 1 or not _is_packable(layer):
            continue
        clip = _clip_after(node, layers) if may_clip else None
        network.set_submodule(node.target, PackedConvolution(layer, clip or _NO_CLIP))
        if clip:
            (after,) = node.users
            after.replace_all_uses_with(node)
            graph.erase_node(after)
    network.recompile()
    network.delete_all_unused_submodules()
    return network


def _is_packable(layer):
    return (
        is_plain_convolution(layer)
        and layer.weight.ndim == 4
        and not isinstance(layer.padding, str)
        and layer.padding_mode == "zeros"
        and can_pack(layer.weight.dtype)
    )


def _clip_after(node, layers):
    """Return what oneDNN calls the only layer after a node, if that is a clip."""
    if len(node.users) != 1:
        return None
    (after,) = node.users
    layer = layers[after.target] if after.op == "call_module" else None
    if type(layer) is nn.Sequential and len(layer) == 1 and is_plain(layer):
        layer = layer[0]
    return _CLIPS.get(type(layer)) if layer is not None and is_plain(layer) else None


def stays_finite(section: Any) -> bool:
    """Return whether a section computes no NaN, unless numbers overflow before."""
    for node in section.graph.nodes if getattr(section, "graph", None) else ():
        if node.op == "call_module":
            if not all(map(_is_finite, section.get_submodule(node.target).modules())):
                return False
        elif node.op == "call_function":
            if node.target not in _FUNCTIONS:
                return False
        elif node.op not in ("placeholder", "output"):
            return False
    return getattr(section, "graph", None) is not None


def _is_finite(layer):
    from timm.layers import BatchNormAct2d, Conv2dSame, SelectAdaptivePool2d

    kinds = {*_LAYERS, BatchNormAct2d, Conv2dSame, SelectAdaptivePool2d}
    return type(layer) in kinds and is_plain(layer)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Return whether this PyTorch packs convolutions, and computes them correctly."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, padding=1, bias=False).requires_grad_(False)
    nn.init.normal_(layer.weight, generator=generator)
    x = torch.randn(2, 8, 6, 6, generator=generator)
    wanted = layer(x).clamp(0, 6)
    try:
        found = PackedConvolution(layer.to(dtype), _CLIPS[nn.ReLU6])(x)
    except (RuntimeError, AttributeError, TypeError):
        return False
    is_close = torch.allclose(found.float(), wanted, rtol=0.05, atol=0.1)
    return found.dtype == dtype and is_close
