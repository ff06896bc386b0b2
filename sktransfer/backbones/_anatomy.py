"""Where the boundaries of a network lie, with the same names in both modes."""

from dataclasses import dataclass, replace

from sktransfer.backbones._stages import (
    Stage,
    find_classifier,
    find_stages,
    last_boundary,
)
from sktransfer.backbones._trace import Trace

__all__ = ["FEATURES", "INPUT", "OUTPUT", "Anatomy", "find_anatomies"]

INPUT, FEATURES, OUTPUT = "input", "features", "output"
_RESERVED = {name: f"{name}_" for name in (INPUT, FEATURES, OUTPUT)}


@dataclass(frozen=True)
class Anatomy:
    """Where the boundaries of a network lie in one of its two graphs.

    Attributes
    ----------
    trace : Trace
    ends : dict of str to (int or None)
        The node that each boundary comes after; None is the output.
    stages : list of Stage
    listed : dict of str to (int or None)
        The part of ``ends`` that is stages and the blocks inside them, in order.
    """

    trace: Trace
    ends: dict
    stages: list
    listed: dict


def find_anatomies(traces, module, classifier):
    """Find the boundaries on the eval graph that exist on the train graph, too.

    Parameters
    ----------
    traces : dict of bool to Trace
        Of the network in train mode (True) and eval mode (False).
    module : torch.nn.Module
    classifier : sequence of str or None
        Paths of its classifying layers, see :func:`find_classifier`.

    Returns
    -------
    dict of bool to Anatomy
        A network that returns something else than a tensor has its features at the
        last boundary, and no stage if there is none.
    """
    eval_, train = traces[False], traces[True]
    twin = _twin_boundaries(eval_, train)
    first = find_classifier(eval_, module, classifier)
    limit = last_boundary(eval_, twin, first)
    stages = find_stages(eval_, module, twin.keys(), limit)
    stages = [_renamed(s) for s in stages]
    if not stages and eval_.returns_tensor:
        stages = [Stage("network", (), None)]
    names = {_RESERVED.get(p, p): i for p, i in eval_.ends.items() if i in twin}
    ends = {INPUT: -1, **names, **{s.name: s.end for s in stages}}
    ends[FEATURES] = None if first is None and eval_.returns_tensor else limit
    ends[OUTPUT] = None
    blocks = [n for s in stages for n in (*s.blocks, s.name)]
    listed = {n: ends[n] for n in blocks}
    ends_in_train = {n: None if e is None else twin[e] for n, e in ends.items()}
    return {
        False: Anatomy(eval_, ends, stages, listed),
        True: Anatomy(train, ends_in_train, stages, listed),
    }


def _renamed(stage):
    """Tell submodules called "input", "features" or "output" from the boundaries."""
    blocks = tuple(_RESERVED.get(name, name) for name in stage.blocks)
    return replace(stage, name=_RESERVED.get(stage.name, stage.name), blocks=blocks)


def _twin_boundaries(eval_, train):
    """Map boundaries of the eval graph to the same ones of the train graph.

    They are the same where the same node lives on: its name and its submodule agree
    as long as the graphs do. Where they differ, ends of submodules tie them together.
    """
    same = len(eval_.nodes) == len(train.nodes) and all(
        (a.op, a.name, a.target) == (b.op, b.name, b.target)
        for a, b in zip(eval_.nodes, train.nodes, strict=True)
    )
    if same:
        return {i: i for i in eval_.live if i in train.live}
    twins = {-1: -1}
    for path, end in eval_.ends.items():
        if end in eval_.live and train.ends.get(path) in train.live:
            twins[end] = train.ends[path]
    return twins
