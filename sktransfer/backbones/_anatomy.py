"""Where the boundaries of a network lie, with the same names in both modes."""

from dataclasses import dataclass, replace

from sktransfer.backbones._stages import (
    Stage,
    find_classifier,
    find_stages,
    last_boundary,
    weighted_nodes,
)
from sktransfer.backbones._trace import Trace, section_graph

__all__ = ["FEATURES", "INPUT", "OUTPUT", "Anatomy", "find_anatomies", "graphs_between"]

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
        A network that returns several tensors has its features at the last boundary,
        and no stage if there is none or if that would drop more than poolers and heads.
    """
    eval_, train = traces[False], traces[True]
    twin = _twin_boundaries(eval_, train)
    first = find_classifier(eval_, module, classifier)
    limit = last_boundary(eval_, twin, first)
    stages = find_stages(eval_, module, twin.keys(), limit)
    stages = [_renamed(s) for s in stages]
    single = eval_.returns_tensor and train.returns_tensor
    if not (single or _ends_with(eval_, module, limit)):
        stages = []
    elif not stages and eval_.returns_tensor:
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


def _ends_with(trace, module, limit):
    """Whether what comes after a boundary only pools and classifies.

    Then no other output is a map that layers with weights make of that one.
    """
    node, _ = trace.live[limit]
    behind = [i for i in weighted_nodes(trace, module) if i > limit]
    if not all(_is_vector(trace.shapes[i]) for i in behind if i in trace.shapes):
        return False
    index = {node: i for i, node in enumerate(trace.nodes)}
    outputs = [trace.shapes.get(index[n]) for n in trace.output_nodes]
    if node not in trace.output_nodes and not all(map(_is_vector, outputs)):
        return False
    return len(behind) <= 1 or not _is_vector(trace.shapes[index[node]])


def _is_vector(shape):
    return shape is not None and sum(n > 1 for n in shape) <= 1


def graphs_between(anatomies, start, stop):
    """Return the graphs from one boundary to another.

    Parameters
    ----------
    anatomies : dict of bool to Anatomy
        In train mode (True) and eval mode (False).
    start, stop : str
        Names of boundaries.

    Returns
    -------
    dict of bool to torch.fx.Graph
    """
    return {
        mode: section_graph(anatomy.trace, anatomy.ends[start], anatomy.ends[stop])
        for mode, anatomy in anatomies.items()
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
