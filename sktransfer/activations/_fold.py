"""Fold BatchNorm into the convolutions before it, in a section that is frozen."""

import copy
from collections import Counter

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["count_uses", "fold_batch_norm", "is_plain", "is_plain_convolution"]


def fold_batch_norm(section):
    """Copy a section, with each BatchNorm folded into the convolution before it.

    Not where something else reads a weight of the two: a second call, a layer that
    shares it, or a function of the forward pass.

    Parameters
    ----------
    section : Section
        In eval mode.

    Returns
    -------
    torch.fx.GraphModule
        Computes the same up to rounding, and shares no tensor with the section.
    """
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


def count_uses(network):
    """Count what reads the tensors of each layer of a network.

    Parameters
    ----------
    network : torch.nn.Module
        If it is a ``torch.fx.GraphModule``, its graph may read tensors itself.

    Returns
    -------
    dict of torch.nn.Module to int
        1 where it is the layer alone, under one path.
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
    """Return where a tensor lies in memory; views of one lie in the same place."""
    if not isinstance(tensor, torch.Tensor):
        return None
    return tensor.untyped_storage().data_ptr()


def is_plain(layer):
    """Say whether a layer does what its class does, and nothing else (bool).

    Parameters
    ----------
    layer : torch.nn.Module
        Hooks, and methods that are replaced on the instance, may do something more.
    """
    own, kind = vars(layer), type(layer)
    hooks = [name for name in own if name.endswith("_hooks") and own[name]]
    return not hooks and not any(callable(getattr(kind, name, None)) for name in own)


def is_plain_convolution(layer):
    """Say whether a layer is a convolution that uses its weight as it is (bool).

    Parameters
    ----------
    layer : torch.nn.Module
        Subclasses and hooks may do something to the weight first, so they are none.
    """
    from timm.layers import Conv2dSame

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame)
    return type(layer) in kinds and is_plain(layer)


def _is_fixed(layer):
    """Whether the layer is a BatchNorm, and something pointwise, that always is."""
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
    """Return what timm's BatchNorm does after the norm, None if nothing."""
    if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return None
    parts = [p for p in (norm.drop, norm.act) if not isinstance(p, nn.Identity)]
    return nn.Sequential(*parts) if parts else None
