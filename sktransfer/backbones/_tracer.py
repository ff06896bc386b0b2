"""Record the graph of a network and its tree of submodule calls, and run the graph."""

import copy
import math
import operator
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partialmethod
from operator import itemgetter, methodcaller

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from sktransfer.backbones._boundaries import is_plain
from sktransfer.compute import DRAW_TRIES, drawn_since, generator_states, map_state
from sktransfer.utils import library_lock

_MAX_LEAVES = 64


class TraceError(RuntimeError):
    """The network's own forward method cannot be traced."""


class _DrawnError(TraceError):
    """Random numbers were drawn, maybe by another thread."""


@dataclass
class Call:
    """One call of a submodule: the interval of graph nodes that it made."""

    path: str
    first: int
    last: int = -1
    children: list = field(default_factory=list)


class _Proxy(fx.Proxy):
    """Records ``x += y`` as it is, where torch.fx would record ``x = x + y``."""

    def _inplace(self, function, other):
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    __iadd__ = partialmethod(_inplace, operator.iadd)
    __imul__ = partialmethod(_inplace, operator.imul)
    __isub__ = partialmethod(_inplace, operator.isub)
    __itruediv__ = partialmethod(_inplace, operator.itruediv)


class _Tracer(fx.Tracer):
    """Traces a network of one input, and records the tree of calls.

    Modules without children stay leaves, so that shapes which they read stay hidden,
    and so do those that timm and torchvision exclude from tracing.
    """

    # Values of buffers are read when the graph runs, and are not fixed in it.
    proxy_buffer_attributes = True

    def __init__(self, leaves):
        from torchvision import ops

        timm_modules, timm_functions = _timm_leaves()
        super().__init__(
            autowrap_modules=(math, ops),
            autowrap_functions=timm_functions,
        )
        self.leaf_types = timm_modules
        self.leaves = leaves
        self.calls = [Call("", 0)]
        self.failed = None
        self._thread = threading.get_ident()
        self._open = [self.calls[0]]
        self._count = 0
        self._others_draw = set()
        self._modes = _modes()

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
        if _modes() != self._modes:
            raise TraceError("part of it switches gradients or autocast on or off")
        self._count += 1
        return super().create_node(*args, **kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        if self._is_of_another_thread():
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _is_of_another_thread(self):
        # torch.fx also records modules that other threads call in the meantime.
        return threading.get_ident() != self._thread

    def call_module(self, m, forward, args, kwargs):
        if self._is_of_another_thread():
            return forward(*args, **kwargs)
        call = Call(self.path_of_module(m), self._count)
        self._open.append(call)
        drawn_before, began = generator_states(), time.perf_counter()
        try:
            result = super().call_module(m, forward, args, kwargs)
            self.check_drawn(drawn_before, time.perf_counter() - began)
        except Exception:
            # A leaf fails because of its input, so its caller must stay whole.
            if not self.is_leaf_module(m, call.path):
                self.failed = self.failed or call.path
            raise
        finally:
            self._open.pop()
        call.last = self._count - 1
        if call.last >= call.first:
            self._open[-1].children.append(call)
        return result

    def check_drawn(self, before, seconds):
        """Refuse to trace what draws random numbers: the graph would fix them.

        If other threads draw, nothing is known yet; networks are run afterwards.
        """
        before = {k: v for k, v in before.items() if k not in self._others_draw}
        drawn, others = drawn_since(before, seconds)
        self._others_draw.update(others)
        if drawn:
            raise _DrawnError(
                "part of it draws random numbers that are no function of x"
            )


def _modes():
    """Return the modes of torch that a graph does not record."""
    kinds = ("cpu", "cuda")
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        *((torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds),
    )


def _timm_leaves():
    from timm.layers import get_notrace_functions, get_notrace_modules

    functions = tuple(f for f in get_notrace_functions() if callable(f))
    return tuple(get_notrace_modules()), functions


def trace_graph(module: nn.Module, leaves: Iterable[str]) -> tuple[fx.Graph, Call]:
    """Trace a network; return its graph and the Call of its root.

    Submodules that cannot be traced, and those whose paths are in ``leaves``, stay
    whole. Raises a TraceError if the network's own forward cannot be traced.
    """
    leaves = {*leaves}
    n_drawn: Counter = Counter()
    while True:
        tracer, drawn_before = _Tracer(leaves), generator_states()
        began = time.perf_counter()
        try:
            with library_lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about proxies of the tracer
                graph = tracer.trace(module)
            tracer.check_drawn(drawn_before, time.perf_counter() - began)
        except Exception as error:
            if isinstance(error, _DrawnError):
                n_drawn[tracer.failed] += 1
                if n_drawn[tracer.failed] < DRAW_TRIES:
                    continue
            if not tracer.failed or len(leaves) >= _MAX_LEAVES:
                is_ours = isinstance(error, TraceError)
                why = str(error) if is_ours else f"{type(error).__name__}: {error}"
                raise TraceError(why) from error
            leaves.add(tracer.failed)
        else:
            return graph, tracer.calls[0]


def _version(tensor):
    """Return how often a tensor was changed in place, as far as it is counted."""
    return 0 if tensor.is_inference() else tensor._version


class Recorder(fx.Interpreter):
    """Runs a graph; keeps the value of each node, and the nodes that it overwrites."""

    def __init__(self, module, graph, *, count):
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.count = count
        self.values = {}
        self.versions = {}
        self.mutations = {}
        self.multiply_adds = {}

    def record(self, x):
        """Run all nodes, without the thread of a progress bar that `run` starts."""
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
        if self._changed(n.all_input_nodes):  # then their views changed as well
            self.mutations[n] = self._changed(self.versions)
            self.versions |= {m: _version(self.values[m]) for m in self.mutations[n]}
        self.values[n] = value
        if isinstance(value, torch.Tensor):
            self.versions[n] = _version(value)
        return value

    def _changed(self, nodes):
        versions, values = self.versions, self.values
        return {
            m for m in nodes if m in versions and _version(values[m]) != versions[m]
        }


def record(
    module: nn.Module, graph: fx.Graph, example, *, count: bool
) -> list["Recorder"]:
    """Run a graph on two samples and on three; return the two Recorders.

    It runs on the meta device, which computes nothing, or else on the CPU. There, a
    tensor of floating point is drawn first, so that values that depend on it differ
    between the runs. Otherwise the example is taken, which holds at least three model
    inputs.
    """
    given = [map_state(itemgetter(slice(n)), example) for n in (2, 3)]
    attempts = [("meta", given), ("cpu", given)]
    if is_plain(example):
        attempts.insert(1, ("cpu", torch.randn(5, *example.shape[1:]).split([2, 3])))
    for device, examples in attempts:
        replica = _replica(module, device)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                moved = [map_state(methodcaller("to", device), e) for e in examples]
                return [run_graph(replica, graph, e, count=count) for e in moved]
        except Exception as error:
            failed = error
    raise failed


def run_graph(module, graph, x, *, count=False) -> Recorder:
    """Run a graph on model inputs, and return the Recorder of the run."""
    recorder = Recorder(module, graph, count=count)
    recorder.record(x)
    return recorder


def _replica(module, device):
    """Copy a module onto a device; the copy on meta has no weights."""
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
