"""Boundaries of a traced graph, and the graphs between them.

A state is what is live at a boundary: one tensor or a dict of tensors, the first
dimension of each being that of the samples.
"""

import math
import operator
from dataclasses import is_dataclass

import torch
from torch import fx


def tensors_in(value: object) -> list[torch.Tensor]:
    """List the tensors in nested tuples, lists, dicts and dataclasses, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif is_dataclass(value):
        value = vars(value).values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]


def is_plain(x: object) -> bool:
    """Return whether model inputs are one floating point tensor."""
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def is_state(value, n: int) -> bool:
    """Return whether a value is a state of n samples."""
    tensors = [*value.values()] if isinstance(value, dict) else [value]
    are_tensors = all(isinstance(t, torch.Tensor) for t in tensors)
    return bool(tensors) and are_tensors and all(t.shape[:1] == (n,) for t in tensors)


def shape_of_sample(value):
    """Return the shape of one sample: a dict for a group, None if there is none."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape[1:])
    if not isinstance(value, dict) or not value:
        return None
    if not all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
        return None
    return {name: tuple(tensor.shape[1:]) for name, tensor in value.items()}


def n_values(shape: tuple | dict) -> int:
    """Return the number of values per sample of a state of some shape."""
    shapes = shape.values() if isinstance(shape, dict) else [shape]
    return sum(map(math.prod, shapes))


def shape_text(shape: tuple | dict) -> str:
    """Write the shape of a batch, such as ``(n, 3, 64, 64)`` for ``(3, 64, 64)``."""
    if isinstance(shape, dict):
        parts = (f"{name!r}: {shape_text(part)}" for name, part in shape.items())
        return f"{{{', '.join(parts)}}}"
    return f"({', '.join(map(str, ('n', *shape)))})"


def nodes_in(argument):
    """List the nodes in an argument of a node, in order."""
    found = []
    fx.map_arg(argument, found.append)
    return found


def _dependent(inputs):
    """Return the nodes whose value depends on the input of the network."""
    dependent = set()
    for node, before in inputs.items():
        if node.op == "placeholder" or not dependent.isdisjoint(before):
            dependent.add(node)
    return dependent


def _needed(inputs, ends, known=()):
    """Return `ends` and the nodes that they depend on, without the known ones."""
    needed, stack = set(), list(ends)
    while stack:
        node = stack.pop()
        if node not in needed and node not in known:
            needed.add(node)
            stack.extend(inputs[node])
    return needed


def find_boundaries(nodes, inputs, effects, overwritten, runs):
    """Find the places where the rest of a graph depends on exactly one live tensor.

    The arguments are attributes of a Trace, and the Recorders of a run on two samples
    and of one on three. Returns ``Trace.live``.
    """
    index = {node: i for i, node in enumerate(nodes)}
    relevant = _dependent(inputs) & _needed(inputs, [nodes[-1], *effects])
    last_use = dict.fromkeys(relevant, -1)
    for user in relevant:
        for n in relevant.intersection(inputs[user]):
            last_use[n] = max(last_use[n], index[user])
    boundaries = {-1: (nodes[0], {})}  # in front of the first node: the input
    live = []
    for i, node in enumerate(nodes[:-1]):
        if node in relevant:
            live.append(node)
        live = [n for n in live if last_use[n] > i]
        found = _boundary(live, runs)
        if found is not None and found[0] not in overwritten:
            boundaries[i] = found
    return boundaries


def _boundary(live, runs):
    """Return the live node and the expressions of the static values, or None."""
    two, three = (run.values for run in runs)
    tensors = [n for n in live if not is_static(two[n])]
    if len(tensors) != 1 or not isinstance(two[tensors[0]], torch.Tensor):
        return None
    (node,) = tensors
    z2, z3 = two[node], three[node]
    if z2.ndim < 2 or (z2.shape[0], z3.shape[0]) != (2, 3):
        return None
    if not z2.is_floating_point():
        return None
    static = {n: _expression(two[n], three[n], z2) for n in live if n is not node}
    return None if None in static.values() else (node, static)


def is_static(value: object) -> bool:
    """Return whether a value holds no tensor, so that it depends on shapes alone."""
    if isinstance(value, tuple | list):
        return all(map(is_static, value))
    kinds = (int, float, bool, str, torch.dtype, torch.device, slice, type(None))
    return isinstance(value, kinds)


def _expression(two, three, z):
    """Describe how to compute a static value from a boundary tensor, or return None.

    It is ``("constant", v)``, ``("batch", k)`` for k times the batch size,
    ``("device",)``, ``("dtype",)``, or ``("tuple", parts)``.
    """
    if isinstance(two, torch.device):
        return ("device",)
    if isinstance(two, torch.dtype) and two == z.dtype:
        return ("dtype",)
    if isinstance(two, tuple | list):
        parts = [_expression(a, b, z) for a, b in zip(two, three, strict=True)]
        return None if None in parts else ("tuple", parts)
    if two == three:
        return ("constant", two)
    if isinstance(two, int) and two % 2 == 0 and two // 2 * 3 == three:
        return ("batch", two // 2)
    return None


def _replay(graph, z, expression):
    """Write an expression into a graph, where z is the node of the boundary tensor."""
    kind, *rest = expression
    if kind == "constant":
        return rest[0]
    if kind == "tuple":
        return tuple(_replay(graph, z, part) for part in rest[0])
    if kind in ("device", "dtype"):
        return graph.call_function(getattr, (z, kind))
    size = graph.call_method("size", (z, 0))
    return graph.call_function(operator.mul, (size, rest[0]))


def evaluate(expression, z):
    """Return the value of an expression at a boundary tensor."""
    kind, *rest = expression
    if kind == "constant":
        return rest[0]
    if kind == "tuple":
        return tuple(evaluate(part, z) for part in rest[0])
    return len(z) * rest[0] if kind == "batch" else getattr(z, kind)


def section_graph(trace, start, stop) -> fx.Graph:
    """Return the graph from one boundary to another.

    ``start`` and ``stop`` are keys of ``trace.live``, or None for the output. Values
    that do not depend on the input are computed where they are needed.
    """
    graph, env = fx.Graph(), {}
    z = graph.placeholder("x")
    if start is None:  # from the output to the output
        graph.output(z)
        return graph
    node, static = trace.live[start]
    # The input is the only boundary that a network may overwrite.
    env[node] = graph.call_method("clone", (z,)) if node in trace.overwritten else z
    env.update({n: _replay(graph, z, e) for n, e in static.items()})
    end = trace.nodes[-1].args[0] if stop is None else trace.live[stop][0]
    nodes = trace.nodes if stop is None else trace.nodes[: stop + 1]
    effects = set(trace.effects).intersection(nodes[start + 1 :])
    wanted = _needed(trace.inputs, [*nodes_in(end), *effects], env)
    for node in trace.nodes:
        if node in wanted:
            env[node] = graph.node_copy(node, env.__getitem__)
    graph.output(fx.map_arg(end, env.__getitem__))
    return graph


def graphs_between(staged_graphs: dict, start: str, stop: str) -> dict[bool, fx.Graph]:
    """Return the graphs from one boundary to another by mode, True for train mode."""
    return {
        mode: section_graph(staged.trace, staged.ends[start], staged.ends[stop])
        for mode, staged in staged_graphs.items()
    }
