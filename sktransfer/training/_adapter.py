"""Low-rank adapters (LoRA) for the layers of the trained stages."""

import copy
from collections import Counter

import torch
from torch import nn

from sktransfer.compute import fixed_threads, seeded
from sktransfer.utils import import_optional

_NAME = "sktransfer"  # distinguishes these adapters from those of the user


def add_lora(section, *, rank: int, alpha: float, seed: int) -> list[str]:
    """Freeze a section, add low-rank adapters to its layers, and return their paths.

    The weight W of a layer, as a matrix with one row per output, becomes W + alpha /
    rank * B @ A. Only A, with `rank` rows, and B, with `rank` columns, are trained. A
    is random and B starts at zero, so that the outputs are unchanged at first. The
    section, and the network that it is a part of, change in place.

    Linear layers and convolutions without groups are adapted, except for subclasses,
    which may change their weight before they use it; layers with hooks; weights that
    other layers or earlier stages share; and weights that are read without calling
    their layer, as in :class:`torch.nn.MultiheadAttention`. If the smaller side of a
    weight is shorter than `rank`, it is the rank of the adapters, and the factor
    remains ``alpha / rank``.

    Raises
    ------
    ValueError
        If the section has no layer to adapt, or has adapters already.

    References
    ----------
    E. J. Hu et al. (2021). LoRA: Low-Rank Adaptation of Large Language Models.
    https://arxiv.org/abs/2106.09685
    """
    peft = import_optional("peft", feature="LoRA", extra="lora")
    if _adapted(section):
        raise ValueError(f"{section} has adapters already; `merge_lora` comes first.")
    found = _find_layers(section)
    if not found:
        raise ValueError(
            "LoRA needs a linear layer or a convolution without groups among the "
            f"trained stages. {_name(section)} from {section.start!r} to "
            f"{section.stop!r} has none that it could change. Freeze fewer stages, or "
            "train these without LoRA."
        )
    section.requires_grad_(False)
    layers = list(found.values())
    adapted = _inject(peft, layers, rank, float(alpha), seed)
    section.replace_layers(dict(zip(layers, adapted, strict=True)))
    return list(found)


def merge_lora(section) -> None:
    """Merge the adapters of a section into its weights, and restore the plain layers.

    The outputs are unchanged up to rounding, and parameters that :func:`add_lora` froze
    remain frozen. A section without adapters is left unchanged.
    """
    adapted = _adapted(section)
    for layer in adapted:
        _merge(layer)
    section.replace_layers({layer: layer.base_layer for layer in adapted})


def _adapted(section):
    return [m for m in section.modules() if _NAME in getattr(m, "lora_A", ())]


def _name(section):
    return section.backbone.name


def _find_layers(section):
    """Find the layers whose weight is used in their own call only, by path."""
    backbone = section.backbone
    users = Counter(
        id(parameter)
        for layer in backbone.module.modules()
        for parameter in layer.parameters(recurse=False)
    )
    prefix = backbone.section("input", section.start)
    users.update(map(id, prefix.parameters()))  # it must not change
    read = {n.target for n in section.graph.nodes if n.op == "get_attr"}
    return {
        path: layer
        for path, layer in section.named_modules()
        if _is_plain(layer)
        and users[id(layer.weight)] == 1
        and f"{path}.weight" not in read
    }


def _is_plain(layer):
    """Return whether a layer multiplies its input by its unchanged weight."""
    from timm.layers import Conv2dSame

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame)
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    return type(layer) in kinds and getattr(layer, "groups", 1) == 1 and not hooks


def _inject(peft, layers, rank, alpha, seed):
    """Wrap layers in peft's layers with adapters."""
    # peft gets the layers in a list of their own, so that it changes no other module.
    holder = nn.ModuleList(layers)
    sides = [min(len(layer.weight), layer.weight[0].numel()) for layer in layers]
    lower = {str(i): side for i, side in enumerate(sides) if side < rank}
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=r"\d+",
        rank_pattern=lower,
        alpha_pattern={i: alpha * side / rank for i, side in lower.items()},
    )
    with seeded(seed):
        peft.inject_adapter_in_model(config, holder, _NAME)
    for layer in holder:
        _copy_geometry(layer)
        layer.register_forward_pre_hook(_do_nothing)
    return list(holder)


def _copy_geometry(layer):
    """Copy the padding, stride and dilation of a convolution to its adapter A.

    peft copies neither `dilation` nor `padding_mode`
    (https://github.com/huggingface/peft/issues/3697), nor timm's Conv2dSame padding.
    """
    base, a = layer.base_layer, layer.lora_A[_NAME]
    if isinstance(base, nn.Linear):
        return
    twin = copy.deepcopy(base, {id(base.weight): a.weight})
    twin.bias = None
    twin.out_channels = a.out_channels
    layer.lora_A[_NAME] = twin


@torch.no_grad()
@fixed_threads()
def _merge(layer):
    """Add B @ A to the weight; peft's own merge fails for some 3-D kernels."""
    weight = layer.base_layer.weight
    a, b = (part[_NAME].weight.flatten(1) for part in (layer.lora_A, layer.lora_B))
    weight += layer.scaling[_NAME] * (b @ a).view_as(weight)


def _do_nothing(layer, args):
    """Force the parent module to call this layer, by the presence of a hook.

    In eval mode, nn.TransformerEncoderLayer passes ``linear1.weight`` to a fused kernel
    unless there are hooks, and peft's layers return the weight without adapters there.
    """
