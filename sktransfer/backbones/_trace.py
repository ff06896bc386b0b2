"""Trace a network and find the points where exactly one tensor is live."""

import copy
import math
import operator
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partialmethod

import torch
import torchvision
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from sktransfer.compute import seeded

__all__ = ["Call", "Trace", "TraceError", "section_graph", "trace_network"]

_MAX_LEAVES = 64


class TraceError(RuntimeError):
    """The forward method of the network itself cannot be traced."""


@dataclass
class Call:
    """One call of a submodule: the interval of graph nodes that it made."""

    path: str
    first: int
    last: int = -1
    children: list = field(default_factory=list)


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
    ``returned`` the type of what the network returns.
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
    returned: type

    @property
    def returns_tensor(self):
        """Whether the network returns a tensor (bool)."""
        return issubclass(self.returned, torch.Tensor)


class _Proxy(fx.Proxy):
    """Records ``x += y`` as it is; torch.fx takes it for ``x = x + y``."""

    def _inplace(self, function, other):
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    __iadd__ = partialmethod(_inplace, operator.iadd)
    __imul__ = partialmethod(_inplace, operator.imul)
    __isub__ = partialmethod(_inplace, operator.isub)
    __itruediv__ = partialmethod(_inplace, operator.itruediv)


class _Tracer(fx.Tracer):
    """Symbolic tracer with one placeholder that remembers the tree of calls.

    Modules without children stay leaves: they own no boundary, and shapes that they
    read inside stay hidden. So do those that timm and torchvision ask for.
    """

    # What is computed from a buffer is computed anew, never frozen as it was.
    proxy_buffer_attributes = True

    def __init__(self, leaves):
        timm_modules, timm_functions = _timm_leaves()
        super().__init__(
            autowrap_modules=(math, torchvision.ops),
            autowrap_functions=timm_functions,
        )
        self.leaf_types = timm_modules
        self.leaves = leaves
        self.calls = [Call("", 0)]
        self.failed = None
        self._thread = threading.get_ident()
        self._open = [self.calls[0]]
        self._count = 0

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        # The other arguments keep their defaults: `attn_mask=None` is no live tensor.
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def is_leaf_module(self, m, module_qualified_name):
        if module_qualified_name in self.leaves or isinstance(m, self.leaf_types):
            return True
        if type(m).__module__.startswith("torchvision.ops."):
            return not isinstance(m, nn.Sequential)
        childless = next(m.children(), None) is None
        return childless or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node):
        return _Proxy(node, self)

    def create_node(self, *args, **kwargs):
        self._count += 1
        return super().create_node(*args, **kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        if self._is_of_another_thread():
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _is_of_another_thread(self):
        # torch.fx records all modules of the process that are called meanwhile.
        return threading.get_ident() != self._thread

    def call_module(self, m, forward, args, kwargs):
        if self._is_of_another_thread():
            return forward(*args, **kwargs)
        call = Call(self.path_of_module(m), self._count)
        self._open.append(call)
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception:
            # A leaf fails by what it is given: whoever gives it must stay whole.
            if not self.is_leaf_module(m, call.path):
                self.failed = self.failed or call.path
            raise
        finally:
            self._open.pop()
        call.last = self._count - 1
        if call.last >= call.first:
            self._open[-1].children.append(call)
        return result


def _timm_leaves():
    from timm.layers import get_notrace_functions, get_notrace_modules

    functions = tuple(f for f in get_notrace_functions() if callable(f))
    return tuple(get_notrace_modules()), functions


def _trace_graph(module):
    """Trace, keeping a submodule whole if its forward cannot be traced."""
    leaves = set()
    while True:
        tracer = _Tracer(leaves)
        try:
            with warnings.catch_warnings(), _proxies_forgotten(module):
                warnings.simplefilter("ignore")  # the tracer's, about its own proxies
                graph = tracer.trace(module)
        except Exception as error:
            if not tracer.failed or len(leaves) >= _MAX_LEAVES:
                raise TraceError(f"{type(error).__name__}: {error}") from error
            leaves.add(tracer.failed)
        else:
            return graph, tracer.calls[0]


@contextmanager
def _proxies_forgotten(module):
    """Put back attributes, and caches in dicts, in which forward left a proxy.

    Attention layers of timm, for instance, cache what they compute from their weights.
    """
    found = [d for m in module.modules() for d in (vars(m), *vars(m).values())]
    kept = [(d, dict(d)) for d in found if isinstance(d, dict)]
    try:
        yield
    finally:
        for now, before in kept:
            for key in [k for k, v in now.items() if isinstance(v, fx.Proxy)]:
                if key in before:
                    now[key] = before[key]
                else:
                    del now[key]


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


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps each node's value, and which nodes it overwrites."""

    def __init__(self, module, graph, *, count):
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.count = count
        self.values = {}
        self.versions = {}
        self.mutations = {}
        self.multiply_adds = {}

    def record(self, x):
        """Run all nodes; `run` starts a thread for a bar that it does not show."""
        self.env, self.args_iter = {}, iter([x])
        for node in self.graph.nodes:
            self.env[node] = self.run_node(node)

    def run_node(self, n):
        if self.count:
            with FlopCounterMode(display=False) as counter:
                value = super().run_node(n)
            self.multiply_adds[n] = counter.get_total_flops() // 2
        else:
            value = super().run_node(n)
        if self._changed(n.all_input_nodes):  # and so did their views
            self.mutations[n] = self._changed(self.versions)
            self.versions |= {m: self.values[m]._version for m in self.mutations[n]}
        self.values[n] = value
        if isinstance(value, torch.Tensor):
            self.versions[n] = value._version
        return value

    def _changed(self, nodes):
        versions, values = self.versions, self.values
        return {m for m in nodes if m in versions and values[m]._version != versions[m]}


def _record(module, graph, examples, *, count):
    """Run on the meta device, which costs nothing, or on the CPU if that fails.

    Returns
    -------
    list of _Recorder
        One an example.
    """
    for device in ("meta", "cpu"):
        replica = _replica(module, device)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return [_run(replica, graph, e.to(device), count) for e in examples]
        except Exception:
            if device == "cpu":
                raise
    raise AssertionError("unreachable")


def _run(module, graph, example, count):
    recorder = _Recorder(module, graph, count=count)
    recorder.record(example)
    return recorder


def _replica(module, device):
    """Copy a module onto a device; on meta without copying a single weight."""
    memo = {}
    if device == "meta":
        attributes = [v for m in module.modules() for v in vars(m).values()]
        plain = filter(torch.is_tensor, attributes)
        for tensor in [*module.parameters(), *module.buffers(), *plain]:
            empty = torch.empty_like(tensor, device="meta")
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(empty, False) if is_parameter else empty
    replica = copy.deepcopy(module, memo)
    return replica if device == "meta" else replica.to(device)


def trace_network(module, example, *, training=False):
    """Trace a network and find its boundaries.

    Parameters
    ----------
    module : torch.nn.Module
        Its ``forward`` takes one tensor.
    example : torch.Tensor of shape (n >= 3, ...)
        A batch of model inputs; only its shape and dtype matter.
    training : bool, default=False
        The mode to trace in, since ``self.training`` is baked into a graph.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        If the network's own ``forward`` cannot be traced or run.
    """
    modes = {m: m.training for m in module.modules()}
    module.train(training)
    try:
        with seeded(0):  # dropout draws; and torch.fx traces one network at a time
            graph, root = _trace_graph(module)
            examples = example[:2], example[:3]
            two, three = _record(module, graph, examples, count=not training)
    except TraceError:
        raise
    except Exception as error:
        raise TraceError(f"{type(error).__name__}: {error}") from error
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode
    nodes = list(graph.nodes)
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
        returned=type(values[nodes[-1]]),
    )


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
