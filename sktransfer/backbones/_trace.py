"""Tracing of a network in one mode, and facts that a run of its graph shows."""

import operator
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import fx
from torch.fx import Node

from sktransfer.backbones._boundaries import (
    find_boundaries,
    is_state,
    is_static,
    n_values,
    nodes_in,
    shape_of_sample,
)
from sktransfer.backbones._tracer import Call, TraceError, record, trace_graph
from sktransfer.compute import attributes_restored, seeded_everywhere

CONSTANT = "_tensor_constant"  # torch.fx's name for tensors that a forward makes


@dataclass
class Trace:
    """The graph of a network in one mode, and what a run of it showed.

    Keys of type int are indices of nodes; shapes and multiply-adds are per sample.
    """

    nodes: list[Node]  # in order of execution
    calls: list[Call]  # the tree of submodule calls
    # By the last node before a boundary (-1 for the input): the node whose value is
    # live there, and expressions of the static values that both sides use.
    live: dict[int, tuple[Node, dict]]
    ends: dict[str, int]  # the last node of every submodule that is called once
    overwritten: set[Node]  # nodes whose tensor a later node changes in place
    inputs: dict[Node, list[Node]]  # arguments of a node, and nodes that change these
    effects: list[Node]  # nodes that change a buffer, such as running statistics
    shapes: dict[int, tuple | dict]
    multiply_adds: dict[int, int]  # counted in eval mode only
    returned: object  # an output of the network, or the only tensor in it

    @property
    def returns_tensor(self):
        """Whether the network returns one tensor."""
        return isinstance(self.returned, torch.Tensor)

    @cached_property
    def most_values(self):
        """Number of values per sample of the largest state."""
        return max(map(n_values, self.shapes.values()))

    @property
    def output_nodes(self):
        """Nodes whose values are in the output of the network."""
        return nodes_in(self.nodes[-1].args[0])


_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    operator.isub: operator.sub,
    operator.itruediv: operator.truediv,
}


def _without_inplace(nodes, module, mutations):
    """Compute out of place wherever the overwritten value is not read; return the rest.

    Otherwise activations that are stored would be overwritten. A tensor that is read
    after it was overwritten is no boundary. The arguments and the result are mutations:
    the nodes that each node overwrites.
    """
    index = {node: i for i, node in enumerate(nodes)}
    left, layers = {}, {}
    for node, overwritten in mutations.items():
        read_again = any(index[u] > index[node] for m in overwritten for u in m.users)
        layer = module.get_submodule(node.target) if node.op == "call_module" else None
        if layer is not None and getattr(layer, "inplace", False) is True:
            layers.setdefault(layer, []).append((node, read_again))
        elif read_again or not _make_pure(node):
            left[node] = overwritten
    for layer, calls in layers.items():
        layer.inplace = any(read_again for _, read_again in calls)
        if layer.inplace:
            left |= {node: mutations[node] for node, _ in calls}
    return left


def _make_pure(node):
    """Return whether a function could be replaced by one that computes out of place."""
    if node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    known = node.target in _OUT_OF_PLACE
    node.target = _OUT_OF_PLACE.get(node.target, node.target)
    return known


def trace_network(
    module, example, *, training: bool = False, leaves: Iterable[str] = ()
) -> Trace:
    """Trace a network in one mode, and find its boundaries.

    ``example`` holds at least three model inputs, and ``leaves`` are paths of
    submodules to keep whole. ``self.training`` is fixed in a graph; gradients are on in
    train mode only. Raises a TraceError if the network's own ``forward`` cannot be
    traced or run.
    """
    _check_root(module)
    with _tracing(module, training):
        # A forward may store proxies in attributes, or count its calls.
        with attributes_restored(module.modules(), keep=CONSTANT):
            graph, root = trace_graph(module, leaves)
        two, three = record(module, graph, example, count=not training)
    nodes = list(graph.nodes)
    _unpack(nodes[-1], two, three)
    mutations = _without_inplace(nodes, module, two.mutations)
    overwritten = set().union(*mutations.values())
    inputs, effects = _inputs(nodes, mutations), _effects(mutations)
    root.last = len(nodes) - 1
    return Trace(
        nodes=nodes,
        calls=[root],
        live=find_boundaries(nodes, inputs, effects, overwritten, (two, three)),
        ends=_call_ends(root),
        overwritten=overwritten,
        inputs=inputs,
        effects=effects,
        **_measured(nodes, two),
    )


def trace_declared(module, paths: list[str], example) -> Trace:
    """Describe a network that is a sequence of submodules, without tracing it.

    ``paths`` are those of the submodules in order; each takes the state that the one
    before it returns. ``example`` holds at least three model inputs. Each node but the
    output is a boundary. Raises a TraceError if the network cannot be run, and a
    TypeError if a submodule before the last one returns no state.
    """
    graph = fx.Graph()
    node = graph.placeholder("x")
    for path in paths:
        node = graph.call_module(path, (node,))
    graph.output(node)
    with _tracing(module, training=False):
        two, three = record(module, graph, example, count=True)
    nodes = list(graph.nodes)
    for node in nodes[1:-2]:
        if not (is_state(two.values[node], 2) and is_state(three.values[node], 3)):
            raise TypeError(
                f"{node.target!r} must return a state: a tensor or a dict of tensors, "
                "the first dimension of each being that of the samples. Got a value "
                f"of type {type(two.values[node]).__name__}."
            )
    return Trace(
        nodes=nodes,
        calls=[],
        live={i or -1: (node, {}) for i, node in enumerate(nodes[:-1])},
        ends={},
        overwritten=set(),
        inputs={node: node.all_input_nodes for node in nodes},
        effects=[],
        **_measured(nodes, two),
    )


@contextmanager
def _tracing(module, training):
    """Set a mode, seed all generators, and raise any failure as a TraceError."""
    modes = {m: m.training for m in module.modules()}
    module.train(training)
    try:
        # Dropout draws random numbers, and torch.fx traces one network at a time.
        with seeded_everywhere(0), torch.set_grad_enabled(training):
            yield
    except TraceError:
        raise
    except Exception as error:
        raise TraceError(f"{type(error).__name__}: {error}") from error
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode


def _measured(nodes, run):
    """Return the attributes of a Trace that a run on two samples shows."""
    shapes = {i: shape_of_sample(run.values.get(n)) for i, n in enumerate(nodes)}
    counted = run.multiply_adds
    return {
        "shapes": {i: shape for i, shape in shapes.items() if shape is not None},
        "multiply_adds": {
            i: counted[n] // 2 for i, n in enumerate(nodes) if n in counted
        },
        "returned": run.values[nodes[-1]],
    }


def _unpack(output, *runs):
    """Change the output of a graph to the only tensor in what it returned."""
    found = [n for n in nodes_in(output.args[0]) if n in runs[0].values]
    tensors = [n for n in found if not is_static(runs[0].values[n])]
    container = not isinstance(runs[0].values[output], torch.Tensor)
    if container and len(tensors) == 1:
        value = runs[0].values[tensors[0]]
        if isinstance(value, torch.Tensor):
            output.args = (tensors[0],)
            for run in runs:
                run.values[output] = run.values[tensors[0]]


def _check_root(module):
    """Check that a call of the network only runs the `forward` of its class."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    if hooks or module._backward_hooks or module._backward_pre_hooks:
        raise TraceError("hooks are registered on the network itself")
    if "forward" in vars(module):
        raise TraceError("its `forward` is replaced on the instance")


def _call_ends(root):
    """Return the last node of every submodule that is called once."""
    ends, repeated, stack = {}, set(), list(root.children)
    while stack:
        call = stack.pop()
        repeated |= {call.path} & ends.keys()
        ends[call.path] = call.last
        stack.extend(call.children)
    return {path: last for path, last in ends.items() if path not in repeated}


def _inputs(nodes, mutations):
    """Return the arguments of each node, and the nodes before it that change them."""
    inputs, so_far = {}, []
    for node in nodes:
        arguments = set(node.all_input_nodes)
        changed = [n for n in so_far if not arguments.isdisjoint(mutations[n])]
        inputs[node] = [*arguments, *changed]
        so_far += [node] if node in mutations else []
    return inputs


def _effects(mutations):
    return [
        node
        for node, overwritten in mutations.items()
        if any(m.op == "get_attr" for m in overwritten)
    ]
