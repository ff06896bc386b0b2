"""A fitted model without its frozen weights, as plain values.

The backbone is loaded again by its name, and its frozen weights are compared with those
of the fit. What is kept holds only numbers, strings, arrays, lists and dicts, so that
other formats than pickle can store it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sktransfer.activations import ActivationLayout, Pool
from sktransfer.backbones import load_backbone, shared_backbone
from sktransfer.compute import use_channels_last
from sktransfer.model._outputs import outputs_from_dict
from sktransfer.training import HEADS, ActivationAugment, Network, make_head

if TYPE_CHECKING:
    from sktransfer.model._fitted import FittedModel

_WHOLE = "sktransfer.config_context(slim_pickles=False)"
_AS_THEY_ARE = ("value_range", "card", "precision", "activation_dtype", "n_features")


def slim_state(model: FittedModel) -> dict:
    """Return a fitted model without its frozen weights.

    It holds the name of the backbone, the fingerprint of the frozen weights, and the
    trained weights. Random weights, which have no name, are kept like trained ones.
    """
    backbone, frozen = model.backbone, model.boundary
    last = frozen
    if model.network is None:
        frozen = last = backbone.in_order([frozen, backbone.stage_names[-1]])[-1]
    else:
        last = getattr(model.network.suffix, "stop", frozen)
    return {
        **{name: getattr(model, name) for name in _AS_THEY_ARE},
        "backbone": _keep_backbone(model, frozen, last),
        "taps": {name: _keep_pool(tap) for name, tap in model.taps.items()},
        "network": None if model.network is None else _keep_network(model),
        "outputs": _attributes(model.outputs),
    }


def whole_state(state: dict) -> dict:
    """Return the attributes of a fitted model, with the frozen weights if it is slim.

    The backbone must be loadable, and its frozen weights must be those of the fit.
    """
    kept = state["backbone"]
    if not isinstance(kept, dict):
        return state
    frozen, last = kept["frozen"], kept["last"]
    backbone, network = _recall_backbone(kept), None
    taps = {n: _recall_pool(p, backbone, n) for n, p in state["taps"].items()}
    if state["network"] is not None:
        network = _recall_network(state["network"], backbone, frozen, last)
    names = ("backbone", "weights", "image_size")
    return state | {
        "backbone": backbone,
        "source": {name: kept[name] for name in names},
        "taps": taps,
        "network": network,
        "outputs": outputs_from_dict(state["outputs"]),
    }


def _attributes(outputs):
    names = [field.name for field in dataclasses.fields(outputs)]
    return {name: getattr(outputs, name) for name in names}


def _keep_backbone(model, frozen, last):
    source, backbone = model.source, model.backbone
    if source is None:
        raise ValueError(
            "A pickle with `slim_pickles=True` must be of a "
            f"{model.card['trained']['estimator']} whose `backbone` was given by name, "
            "and its `weights` by name or path, since it is loaded again by these. Got "
            f"{backbone.name}, which came as an object or with a state dict. "
            f"Pickle it whole with `{_WHOLE}`."
        )
    is_random = source["weights"] is None
    kept = {**source, "frozen": frozen, "last": last, "fingerprint": None}
    if not is_random:
        kept["fingerprint"] = backbone.weights_fingerprint(frozen)
    start = "input" if is_random else frozen
    kept["weights_above"] = {}
    if start != last:
        kept["weights_above"] = _to_arrays(backbone.owner(last).section(start, last))
    return kept


def _recall_backbone(kept):
    name, weights, frozen = kept["backbone"], kept["weights"], kept["frozen"]
    size, is_random = kept["image_size"], weights is None
    try:
        if is_random:
            backbone = load_backbone(name, weights=None, image_size=size)
            backbone.module.requires_grad_(False)
        else:
            backbone = shared_backbone(name, weights=weights, image_size=size, seed=0)
        found = None if is_random else backbone.weights_fingerprint(frozen)
    except Exception as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(
            f"This pickle holds no frozen weights (`slim_pickles=True`), and {name!r} "
            f"with weights={weights!r} cannot be loaded here: {error} Make these "
            f"weights available, or pickle again where they are, with `{_WHOLE}`."
        ) from error
    if found != kept["fingerprint"]:
        raise ValueError(
            f"The frozen weights of {name!r} with weights={weights!r}, up to "
            f"{frozen!r}, are not those that the estimator was fitted with: expected "
            f"the fingerprint {kept['fingerprint']}, got {found}. Install the version "
            "or put back the file that they came from, or pickle again where they "
            f"are, with `{_WHOLE}`."
        )
    backbone = backbone if is_random else backbone.fork(frozen)
    start = "input" if is_random else frozen
    if start != kept["last"]:
        _from_arrays(backbone.section(start, kept["last"]), kept["weights_above"])
    return backbone


def _keep_pool(tap):
    """Return the settings of a pool; None of an identity."""
    if not isinstance(tap, Pool):
        return None
    return [tap.pooling, tap.pool_size, tap.normalize]


def _recall_pool(kept, backbone, boundary):
    if kept is None:
        return nn.Identity()
    *kind, normalize = kept
    shape = backbone.activation_shape(boundary)
    return Pool(*kind, shape, backbone.preprocessing.input_shape, normalize)


def _keep_network(model):
    network = model.network
    kinds = getattr(network.augment, "kinds", None)
    head = _describe_head(network.head, model.n_features, model.outputs.n_outputs)
    return {
        "pool": _keep_pool(network.pool),
        "augment": None if kinds is None else list(kinds),
        "fixed_statistics": getattr(network.suffix, "fixed_statistics", False),
        "fixed": [n for n, p in network.named_parameters() if not p.requires_grad],
        "head": head,
        "head_weights": _to_arrays(network.head),
    }


def _recall_network(kept, backbone, frozen, last):
    head = make_head(**kept["head"], seed=0)
    _from_arrays(head, kept["head_weights"])
    suffix, augment = nn.Identity(), None
    if frozen != last:
        suffix = backbone.section(frozen, last)
        suffix.fixed_statistics = kept["fixed_statistics"]
        suffix.fixed_shared = True
    if kept["augment"] is not None:
        input_shape = backbone.preprocessing.input_shape
        layout = ActivationLayout(backbone.activation_shape(frozen), input_shape)
        augment = ActivationAugment(kept["augment"], layout)
    pool = _recall_pool(kept["pool"], backbone, last)
    network = use_channels_last(Network(suffix, pool, head, augment))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in kept["fixed"])
    return network.eval()


def _describe_head(head, n_features, n_outputs):
    """Return the arguments of `make_head` that make such a head (dict)."""
    first = next(head.children(), None)
    settings = {
        "n_features": n_features,
        "n_outputs": n_outputs,
        "dropout": first.p if isinstance(first, nn.Dropout) else 0.0,
    }
    for name in HEADS:
        if _same_layers(make_head(name, **settings, seed=0), head):
            return {"head": name, **settings}
    raise ValueError(
        f"A pickle with `slim_pickles=True` must be of an estimator whose `head` is "
        f"one of {list(HEADS)}. Got {type(head).__name__}, a module of your own. "
        f"Pickle it whole with `{_WHOLE}`."
    )


def _same_layers(one, other):
    kinds, others = (list(map(type, module.modules())) for module in (one, other))
    return kinds == others and repr(one) == repr(other)


def _to_arrays(module):
    return {k: t.detach().cpu().numpy() for k, t in module.state_dict().items()}


def _from_arrays(module, arrays):
    # Copied, as arrays that are mapped from a file are read-only.
    module.load_state_dict(
        {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}
    )
