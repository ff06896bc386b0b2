"""Trace a network and find the points where exactly one tensor is live."""

import operator
from dataclasses import dataclass

import torch
from torch import fx

from sktransfer.backbones._recorder import Recorder, record
from sktransfer.backbones._tracer import Call, TraceError, trace_graph
from sktransfer.compute import seeded_everywhere, state_put_back

__all__ = [
    "CONSTANT",
    "Call",
    "Trace",
    "TraceError",
    "boundary_values",
    "replays_differ",
    "section_graph",
    "trace_network",
]

CONSTANT = "_tensor_constant"  # how torch.fx names tensors that a forward makes


@dataclass
class Trace:
    """The graph of a network in one mode, with what a run on it showed.

    ``nodes`` are in order of execution; ``calls`` is the tree of submodule calls;
    ``shapes`` holds the shape of a node's tensor at batch size 2, without the batch;
    ``live`` maps the index of each boundary node to the expressions that replace the
    non-tensor values which are used on both sides; ``multiply_adds`` are per sample,
    counted in eval mode only;
    ``overwritten`` are the nodes whose tensor a later node changes in place,
    ``inputs`` what each node depends on: its arguments, and what changed those;
    ``effects`` the nodes that change a buffer, such as running statistics; and
    ``returned`` is an output of the network. One that holds a single tensor is that
    tensor.
    """

    nodes: list
    calls: list
    shapes: dict
    live: dict
    multiply_adds: dict
    ends: dict
    overwritten: set
    inputs: dict
    effects: list
    returned: object

    @property
    def returns_tensor(self):
        """Whether the network returns a tensor (bool)."""
        return isinstance(self.returned, torch.Tensor)

    @property
    def output_nodes(self):
        """The nodes that what the network returns is made of (list of Node)."""
        return _nodes_in(self.nodes[-1].args[0])


_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    operator.isub: operator.sub,
    operator.itruediv: operator.truediv,
}


def _without_inplace(nodes, module, mutations):
    """Compute out of place wherever nobody reads what would have been overwritten.

    Otherwise stored activations would be overwritten. A tensor that is read again
    after it was overwritten has to be, and is no boundary.

    Returns
    -------
    dict of Node to set of Node
        The mutations that are left.
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
    """Say whether a function could be put out of place."""
    if node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    known = node.target in _OUT_OF_PLACE
    node.target = _OUT_OF_PLACE.get(node.target, node.target)
    return known


def trace_network(module, example, *, training=False, leaves=()):
    """Trace a network and find its boundaries.

    Parameters
    ----------
    module : torch.nn.Module
        Its ``forward`` takes one tensor.
    example : torch.Tensor of shape (n >= 3, ...)
        A batch of model inputs; only its shape and dtype matter.
    training : bool, default=False
        The mode to trace in, since ``self.training`` is baked into a graph. Gradients
        are on in train mode alone, as they are when the graph is used.
    leaves : iterable of str, default=()
        Paths of submodules to keep whole, whether they can be traced or not.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        If the network's own ``forward`` cannot be traced or run.
    """
    _check_root(module)
    modes = {m: m.training for m in module.modules()}
    module.train(training)
    try:
        # Dropout draws; and torch.fx traces one network at a time.
        with seeded_everywhere(0), torch.set_grad_enabled(training):
            # A forward may keep proxies in attributes and caches, or count its calls.
            with state_put_back(module.modules(), keep=CONSTANT):
                graph, root = trace_graph(module, leaves)
            two, three = record(module, graph, example, count=not training)
    except TraceError:
        raise
    except Exception as error:
        raise TraceError(f"{type(error).__name__}: {error}") from error
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode
    nodes = list(graph.nodes)
    _unpack(nodes[-1], two, three)
    mutations = _without_inplace(nodes, module, two.mutations)
    overwritten = set().union(*mutations.values())
    inputs = _inputs(nodes, mutations)
    effects = _effects(mutations)
    root.last = len(nodes) - 1
    values = two.values
    shapes = {
        i: tuple(values[n].shape[1:])
        for i, n in enumerate(nodes)
        if isinstance(values.get(n), torch.Tensor)
    }
    counted = two.multiply_adds
    return Trace(
        nodes=nodes,
        calls=[root],
        shapes=shapes,
        live=_find_boundaries(nodes, inputs, effects, overwritten, (two, three)),
        multiply_adds={i: counted[n] // 2 for i, n in enumerate(nodes) if n in counted},
        ends=_call_ends(root),
        overwritten=overwritten,
        inputs=inputs,
        effects=effects,
        returned=values[nodes[-1]],
    )


def _unpack(output, *runs):
    """Let a network return the one tensor that a container holds."""
    found = [n for n in _nodes_in(output.args[0]) if n in runs[0].values]
    tensors = [n for n in found if not _is_static(runs[0].values[n])]
    container = not isinstance(runs[0].values[output], torch.Tensor)
    if container and len(tensors) == 1:
        value = runs[0].values[tensors[0]]
        if isinstance(value, torch.Tensor):
            output.args = (tensors[0],)
            for run in runs:
                run.values[output] = run.values[tensors[0]]


def _check_root(module):
    """See that a call of the network is nothing but its class's `forward`."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    if hooks or module._backward_hooks or module._backward_pre_hooks:
        raise TraceError("hooks are registered on the network itself")
    if "forward" in vars(module):
        raise TraceError("its `forward` is replaced on the instance")


def _call_ends(root):
    """Map the path of every submodule that is called once to its last node."""
    ends, repeated, stack = {}, set(), list(root.children)
    while stack:
        call = stack.pop()
        repeated |= {call.path} & ends.keys()
        ends[call.path] = call.last
        stack.extend(call.children)
    return {path: last for path, last in ends.items() if path not in repeated}


def _inputs(nodes, mutations):
    """Map each node to its arguments and to the nodes before it that change those."""
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


def _find_boundaries(nodes, inputs, effects, overwritten, runs):
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
    tensors = [n for n in live if not _is_static(two[n])]
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


def _is_static(value):
    if isinstance(value, tuple | list):
        return all(map(_is_static, value))
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


def _evaluate(expression, z):
    """Return the value of an expression at a boundary tensor."""
    kind, *rest = expression
    if kind == "constant":
        return rest[0]
    if kind == "tuple":
        return tuple(_evaluate(part, z) for part in rest[0])
    return len(z) * rest[0] if kind == "batch" else getattr(z, kind)


def boundary_values(trace, module, x):
    """Run a traced network and return what it computes at every boundary.

    Parameters
    ----------
    trace : Trace
    module : torch.nn.Module
        The network that was traced, in the same mode.
    x : torch.Tensor of shape (n, ...)
        Model inputs.

    Returns
    -------
    dict of (int or None) to object
        By the keys of ``trace.live``, and None for the output.
    """
    recorder = Recorder(module, trace.nodes[0].graph, count=False)
    recorder.record(x)
    values = {end: recorder.values[node] for end, (node, _) in trace.live.items()}
    return values | {None: recorder.values[trace.nodes[-1]]}


def replays_differ(trace, module, x):
    """Say whether some static value is another one at a boundary than in the network.

    Parameters
    ----------
    trace : Trace
    module : torch.nn.Module
        The network that was traced, in the same mode.
    x : torch.Tensor of shape (n, ...)
        Model inputs. Should be of a batch size that the trace has not seen.

    Returns
    -------
    bool
    """
    recorder = Recorder(module, trace.nodes[0].graph, count=False)
    recorder.record(x)
    values = recorder.values
    return any(
        _evaluate(expression, values[node]) != _plain(values[n])
        for node, static in trace.live.values()
        for n, expression in static.items()
    )


def _plain(value):
    return tuple(map(_plain, value)) if isinstance(value, tuple | list) else value


def section_graph(trace, start, stop):
    """Return the graph from one boundary to another.

    Parameters
    ----------
    trace : Trace
    start, stop : int or None
        Keys of ``trace.live``; -1 is the input, None the output.

    Returns
    -------
    torch.fx.Graph
        From one placeholder to one output. Values that don't depend on the input are
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
    wanted = _needed(trace.inputs, [*_nodes_in(end), *effects], env)
    for node in trace.nodes:
        if node in wanted:
            env[node] = graph.node_copy(node, env.__getitem__)
    graph.output(fx.map_arg(end, env.__getitem__))
    return graph


def _nodes_in(argument):
    found = []
    fx.map_arg(argument, found.append)
    return found
