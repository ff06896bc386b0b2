"""Methods of attribution: how much each part of an input contributes to a score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from sktransfer.activations import ActivationLayout
from sktransfer.utils import import_optional

_BATCH = 16  # model inputs at a time


class Cut(NamedTuple):
    """A network that is cut where Grad-CAM looks at its activations.

    Attributes
    ----------
    first : callable
        From model inputs to the activations.
    rest : callable
        From the activations to scores (n, n_outputs).
    layout : ActivationLayout
    """

    first: Callable
    rest: Callable
    layout: ActivationLayout


# captum's LayerGradCam needs a layer whose output is (n, c, h, w), and it has no
# Grad-CAM++; boundaries may hold tokens, and are at hand without hooks.


def grad_cam(cut: Cut, x: torch.Tensor, column: int) -> torch.Tensor:
    """Return the map (h, w) of Grad-CAM for a score of one model input.

    R. R. Selvaraju et al. (2017). https://arxiv.org/abs/1610.02391
    """
    maps, gradients = _maps_and_gradients(cut, x, column)
    weights = gradients.mean(dim=(1, 2), keepdim=True)  # (c, 1, 1)
    return (weights * maps).sum(dim=0).relu()


def grad_cam_plus_plus(cut: Cut, x: torch.Tensor, column: int) -> torch.Tensor:
    """Return the map (h, w) of Grad-CAM++ for a score of one model input.

    The score is taken through an exponential function, as in the paper: A. Chattopadhay
    et al. (2018). https://arxiv.org/abs/1710.11063
    """
    maps, gradients = _maps_and_gradients(cut, x, column)
    squared = gradients**2
    total = maps.sum(dim=(1, 2), keepdim=True)
    below = 2 * squared + total * gradients**3
    alpha = torch.where(below != 0, squared / below, 0.0)
    weights = (alpha * gradients.relu()).sum(dim=(1, 2), keepdim=True)
    return (weights * maps).sum(dim=0).relu()


def _maps_and_gradients(cut, x, column):
    """Return the activations (c, h, w) at the cut, and the gradients of a score."""
    with torch.no_grad():
        z = cut.first(x)
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        score = cut.rest(z)[0, column]
        (gradient,) = torch.autograd.grad(score, z)
    both = (cut.layout.to_map(t.detach())[0] for t in (z, gradient))
    maps, gradients = both
    return maps, gradients


def integrated_gradients(
    function: Callable,
    x: torch.Tensor,
    baseline: torch.Tensor,
    column: int,
    n_steps: int,
) -> torch.Tensor:
    """Return the attributions of all values of x, of its shape (1, ...).

    They sum to the difference of the scores of x and of the baseline. M. Sundararajan
    et al. (2017). https://arxiv.org/abs/1703.01365
    """
    captum = _captum("integrated_gradients")
    with torch.enable_grad():
        return (
            captum.IntegratedGradients(function)
            .attribute(
                x,
                baseline,
                target=column,
                n_steps=n_steps,
                internal_batch_size=_BATCH,
            )
            .detach()
        )


def occlusion(network: Callable, x: torch.Tensor, column: int, window: int):
    """Return the map (h, w) of how much a score drops if a square of x is mean colour.

    M. D. Zeiler, R. Fergus (2014). https://arxiv.org/abs/1311.2901
    """
    captum = _captum("occlusion")
    step = max(1, window // 2)
    with torch.no_grad():
        found = captum.Occlusion(network).attribute(
            x,
            sliding_window_shapes=(x.shape[1], window, window),
            strides=(x.shape[1], step, step),
            baselines=0,
            target=column,
            perturbations_per_eval=_BATCH,
        )
    return found[0].mean(dim=0)  # equal in all channels


def _captum(method):
    return import_optional(
        "captum.attr", feature=f'`method="{method}"` of explain', extra="explain"
    )


def attention_rollout(
    network: nn.Module, x: Any, layout: ActivationLayout
) -> torch.Tensor:
    """Return the map (h, w) of how much of each patch reaches the class token.

    Without a class token, it is how much reaches all patches on average. Half of each
    layer is attention, averaged over the heads, and half the residual connection. It
    does not depend on the score. S. Abnar, W. Zuidema (2020).
    https://arxiv.org/abs/2005.00928
    """
    found = _attentions(network, x)
    rollout = torch.eye(found[0].shape[-1], device=found[0].device)
    for attention in found:
        mean = attention[0].mean(dim=0)  # (t, t), over the heads
        rollout = (
            0.5 * mean + 0.5 * torch.eye(len(mean), device=mean.device)
        ) @ rollout
    row = rollout[0] if layout.n_extra else rollout.mean(dim=0)
    return row[layout.n_extra :].unflatten(0, layout.grid)


def _attentions(network, x):
    """Return the attention (n, heads, t, t) of each layer of a network of timm."""
    layers = [m for m in network.modules() if _is_attention(m)]
    if not layers:
        raise ValueError(
            'method="rollout" needs the attention layers of a vision transformer of '
            f"timm. Got {type(network).__name__}, which has none; take another method."
        )
    found: list = []
    hooks = [
        layer.attn_drop.register_forward_hook(lambda _m, _x, out: found.append(out))
        for layer in layers
    ]
    before = [layer.fused_attn for layer in layers]
    try:
        for layer in layers:
            layer.fused_attn = False  # the fused operation returns no attention
        with torch.no_grad():
            network(x)
    finally:
        for layer, is_fused, hook in zip(layers, before, hooks, strict=True):
            layer.fused_attn = is_fused
            hook.remove()
    if {attention.shape for attention in found} != {found[0].shape}:
        raise ValueError(
            'method="rollout" needs layers that attend to all patches. Got a network '
            "whose layers attend to windows; take another method."
        )
    return found


def _is_attention(module):
    return hasattr(module, "fused_attn") and isinstance(
        getattr(module, "attn_drop", None), nn.Module
    )
