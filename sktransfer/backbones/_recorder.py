"""Run a recorded graph, and see what it computes, changes and costs."""

import copy
import warnings

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Recorder", "record"]


def _version(tensor):
    """Return how often a tensor was changed in place; those of inference don't say."""
    return 0 if tensor.is_inference() else tensor._version


class Recorder(fx.Interpreter):
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


def record(module, graph, example, *, count):
    """Run on the meta device, which costs nothing, or on the CPU if that fails.

    What depends on values differs between examples that are drawn; a network that
    looks numbers up, as indices, takes only zeros.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed.
    graph : torch.fx.Graph
    example : torch.Tensor of shape (n >= 3, ...)
        A batch of model inputs; only its shape and dtype matter.
    count : bool
        Whether multiply-adds are counted.

    Returns
    -------
    list of Recorder
        Of a run on two samples and of one on three.
    """
    drawn = torch.randn(5, *example.shape[1:])
    attempts = [("meta", example[:2], example[:3])]
    attempts += [("cpu", drawn[:2], drawn[2:]), ("cpu", example[:2], example[:3])]
    for device, *examples in attempts:
        replica = _replica(module, device)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return [_run(replica, graph, e.to(device), count) for e in examples]
        except Exception as error:
            failed = error
    raise failed


def _run(module, graph, example, count):
    recorder = Recorder(module, graph, count=count)
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
