"""Find the boundaries of a recorded graph, and cut it there."""

import operator

import torch
from torch import fx

__all__ = ["evaluate", "find_boundaries", "graphs_between", "is_static", "nodes_in"]


def nodes_in(argument):
    """List the nodes in an argument of a node, in order."""
    found = []
    fx.map_arg(argument, found.append)
    return found


def _dependent(inputs):
    """Nodes whose value depends on the input of the network."""
    dependent = set()
    for node, before in inputs.items():
        if node.op == "placeholder" or not dependent.isdisjoint(before):
            dependent.add(node)
    return dependent


def _needed(inputs, ends, known=()):
    """Nodes that some nodes depend on, themselves included, without known ones."""
    needed, stack = set(), list(ends)
    while stack:
        node = stack.pop()
        if node not in needed and node not in known:
            needed.add(node)
            stack.extend(inputs[node])
    return needed


def find_boundaries(nodes, inputs, effects, overwritten, runs):
    """Find where exactly one tensor is live that the rest of a graph depends on.

    The arguments are those of a Trace, and the Recorders of a run on two samples and
    one on three. Returns a dict as ``Trace.live``.
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
    """Return (live node, expressions of the static values), or None."""
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


def is_static(value):
    """Whether a value of a node holds no tensor and depends on shapes alone."""
    if isinstance(value, tuple | list):
        return all(map(is_static, value))
    kinds = (int, float, bool, str, torch.dtype, torch.device, slice, type(None))
    return isinstance(value, kinds)


def _expression(two, three, z):
    """Say how to get a static value from a boundary tensor; None if one cannot.

    ``("constant", v)``, ``("batch", k)`` for k times the batch size, ``("device",)``,
    ``("dtype",)``, or ``("tuple", parts)``.
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
    """Write an expression into a graph, where z is the boundary tensor's node."""
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


def section_graph(trace, start, stop):
    """Return the graph (torch.fx.Graph) from one boundary to another.

    ``start`` and ``stop`` are keys of ``trace.live``, or None for the output. The graph
    has one placeholder and one output; values that don't depend on the input are
    computed where they are needed.
    """
    graph, env = fx.Graph(), {}
    z = graph.placeholder("x")
    if start is None:  # nothing comes after the output
        graph.output(z)
        return graph
    node, static = trace.live[start]
    # The one boundary that a network may overwrite is its input.
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


def graphs_between(anatomies, start, stop):
    """Return the graphs from one boundary to another, by name, in each mode (dict)."""
    return {
        mode: section_graph(anatomy.trace, anatomy.ends[start], anatomy.ends[stop])
        for mode, anatomy in anatomies.items()
    }
