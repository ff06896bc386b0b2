"""Fold BatchNorm into the convolutions before it, in a section that is frozen."""

import copy
from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["fold_batch_norm", "is_plain_convolution"]


def fold_batch_norm(section):
    """Copy a section, with each BatchNorm folded into the convolution before it.

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
    for node in list(network.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        convolution, norm = layers[before.target], layers[node.target]
        alone = len(before.users) == calls[before.target] == calls[node.target] == 1
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


def is_plain_convolution(layer):
    """Say whether a layer is a convolution that uses its weight as it is (bool).

    Parameters
    ----------
    layer : torch.nn.Module
        Subclasses and hooks may do something to the weight first, so they are none.
    """
    from timm.layers import Conv2dSame

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame)
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    return type(layer) in kinds and not hooks


def _is_fixed(layer):
    """Whether the layer is a BatchNorm, and something pointwise, that always is."""
    from timm.layers import BatchNormAct2d

    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    return type(layer) in kinds and layer.running_mean is not None and not hooks


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
