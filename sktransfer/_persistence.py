"""What is kept of a fitted estimator without its frozen weights, as plain values.

The backbone is loaded again by its name, and its frozen weights compared with those of
the fit. What is kept holds numbers, strings, arrays, lists and dicts only, so that not
only pickle can write it.
"""

from collections import OrderedDict

import numpy as np
import pandas as pd
import torch
from torch import nn

from sktransfer.activations import Layout, Pool, Target
from sktransfer.backbones import load_backbone, shared_backbone
from sktransfer.compute import use_channels_last
from sktransfer.training import HEADS, ActivationAugment, Network, make_head

__all__ = ["slim_state", "whole_state"]

_WHOLE = "sktransfer.config_context(slim_pickles=False)"
_MADE_AGAIN = ("backbone_", "preprocessing_", "module_", "_target")


def slim_state(estimator, state, frozen, last):
    """Take the frozen weights out of a state.

    Parameters
    ----------
    estimator : BackboneEstimator
        Fitted.
    state : dict
        What a whole pickle of it holds.
    frozen : str
        The boundary that its weights are frozen up to.
    last : str
        The boundary behind the last weights that it uses.

    Returns
    -------
    dict
        With the name to load the backbone by, the fingerprint of the frozen weights,
        and the trained ones. Random weights, which have no name, are kept like trained
        ones.

    Raises
    ------
    ValueError
        If the backbone was not given by name, or the head is a module of the user's.
    """
    kept = {"backbone": _keep_backbone(estimator, frozen, last)}
    if "module_" in state:
        kept["network"] = _keep_network(estimator)
        state = {**state, "net_": _epochs(state["net_"])}
    state = {k: v for k, v in state.items() if k not in _MADE_AGAIN}
    tables = {k: v for k, v in state.items() if isinstance(v, pd.DataFrame)}
    kept["tables"] = {name: table.to_dict("list") for name, table in tables.items()}
    return {**{k: v for k, v in state.items() if k not in tables}, "_kept": kept}


def whole_state(state):
    """Put the frozen weights back into a state.

    Parameters
    ----------
    state : dict
        Slim or whole.

    Returns
    -------
    dict

    Raises
    ------
    OSError, ValueError
        If the backbone cannot be loaded, or has other frozen weights than in the fit.
    """
    state = dict(state)
    kept = state.pop("_kept", None)
    if kept is None:
        return state
    frozen, last = kept["backbone"]["frozen"], kept["backbone"]["last"]
    backbone = _recall_backbone(kept["backbone"])
    state |= {"backbone_": backbone, "preprocessing_": backbone.preprocessing}
    if "network" in kept:
        made = _recall_network(kept["network"], backbone, frozen, last)
        state["_target"], state["module_"] = made
    return state | {name: pd.DataFrame(t) for name, t in kept["tables"].items()}


def _epochs(history):
    """Return the rows of a history without what each batch did."""
    return [{k: v for k, v in row.items() if k != "batches"} for row in history]


def _keep_backbone(estimator, frozen, last):
    source, backbone = estimator._source, estimator.backbone_
    if source is None:
        raise ValueError(
            "A pickle with `slim_pickles=True` must be of a "
            f"{type(estimator).__name__} whose `backbone` was given by name, and its "
            f"`weights` by name or path, since it is loaded again by these. Got "
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


def _keep_network(estimator):
    network, tap = estimator.module_.network, estimator._target.tap
    pool = tap if isinstance(tap, Pool) else network.pool
    kinds = getattr(network.augment, "kinds", None)
    return {
        "pool": [pool.pooling, pool.pool_size],
        "augment": None if kinds is None else list(kinds),
        "fixed_statistics": getattr(network.suffix, "fixed_statistics", False),
        "fixed": [n for n, p in network.named_parameters() if not p.requires_grad],
        "head": _describe_head(network.head, estimator),
        "head_weights": _to_arrays(network.head),
    }


def _recall_network(kept, backbone, frozen, last):
    """Return the target, and prefix, pool and network in one module."""
    shape, sample = backbone.activation_shape(last), backbone.preprocessing.input_shape
    pool, nothing = Pool(*kept["pool"], shape, sample), nn.Identity()
    target = Target(frozen, pool if frozen == last else nothing)
    head = make_head(**kept["head"], seed=0)
    _from_arrays(head, kept["head_weights"])
    network = Network(nothing, nothing, head)
    if frozen != last:
        layout = Layout(backbone.activation_shape(frozen), sample)
        network = Network(backbone.section(frozen, last), pool, head)
        network.suffix.fixed_statistics = kept["fixed_statistics"]
        network.suffix.fixed_shared = True
        if kept["augment"] is not None:
            network.augment = ActivationAugment(kept["augment"], layout)
    for name, parameter in use_channels_last(network).named_parameters():
        parameter.requires_grad_(name not in kept["fixed"])
    prefix = backbone.section("input", frozen).freeze()
    parts = {"prefix": prefix, "pool": target.tap, "network": network}
    return target, nn.Sequential(OrderedDict(parts)).eval()


def _describe_head(head, estimator):
    """Return the arguments of `make_head` that make such a head (dict)."""
    first = next(head.children(), None)
    settings = {
        "n_features": estimator._n_features_out,
        "n_outputs": estimator._n_outputs,
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
    # Copied, since arrays that are mapped from a file cannot be written to.
    module.load_state_dict(
        {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}
    )
