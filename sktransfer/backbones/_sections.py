"""Stages as a module that shares the network's parameters, and its fingerprint."""

import copy
import hashlib
from functools import reduce

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from sktransfer.backbones._stages import INPUT
from sktransfer.utils import describe, join_key, update_with_tensor

__all__ = ["Section", "describe_section", "fingerprint", "fingerprint_tensors"]

_BATCH_NORMS = (F.batch_norm, torch.batch_norm)
_FLAGS = ("frozen", "fixed_statistics", "fixed_shared")
_TRAINING = 5  # the place of this argument in both


class Section(nn.Module):
    """The part of a backbone between two of its boundaries.

    Its parameters, buffers and submodules *are* those of the backbone's module, under
    the same names; only those that the part uses are listed. The train and the eval
    mode have a graph each, as ``self.training`` is baked into a traced graph. Sections
    may share layers: whenever one runs, its layers are in the mode that its own
    ``train`` or ``eval`` set.

    Made by :meth:`Backbone.section` and :meth:`Backbone.split`.

    Parameters
    ----------
    backbone : Backbone
        Or anything whose ``module`` is the whole network.
    start, stop : str
        Names of boundaries.
    graphs : dict of bool to torch.fx.Graph
        The graph of the part in train mode (True) and eval mode (False).
    """

    def __init__(self, backbone, start, stop, graphs):
        super().__init__()
        self.start = start
        self.stop = stop
        self._backbone = (backbone,)  # in a tuple: the whole is no submodule of a part
        self._graphs = graphs
        self._forwards = {}  # compiled when they are first called
        self.frozen = False
        self.fixed_statistics = False
        self.fixed_shared = False
        self._own_tensors = []
        nodes = [node for graph in graphs.values() for node in graph.nodes]
        whole = backbone.module
        for op in ("call_module", "get_attr"):  # layers first: they own their tensors
            for target in dict.fromkeys(n.target for n in nodes if n.op == op):
                self._adopt(whole, target)
        self.train(whole.training)

    @property
    def graph(self):
        """Graph of the part in eval mode, with the names of its layers here."""
        return self._graphs[False]

    @property
    def code(self):
        """Source of the part in eval mode; what it computes, but for the weights."""
        return self.graph.python_code("self").src

    @property
    def whole(self):
        """The whole network (torch.nn.Module), which is no submodule of the part."""
        (backbone,) = self._backbone
        return backbone.module

    def forward(self, x):
        """Compute the part.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            Activations at ``start``.

        Returns
        -------
        torch.Tensor of shape (n, ...)
            Activations at ``stop``.
        """
        for layer, mode in self._modes:
            if layer.training != mode:  # set by another section that shares it
                layer.training = mode
        return self._find_forward()(self.whole, x)

    def _find_forward(self):
        """Return the function of the mode that the section is in."""
        mode = (self.training, self.training and self.fixed_statistics)
        if mode not in self._forwards:
            graph = self._graphs[self.training]
            self._forwards[mode] = _compile(
                _fix_statistics(graph) if mode[1] else graph
            )
        return self._forwards[mode]

    def freeze(self):
        """Keep every parameter and buffer as it is, under ``train()`` as well.

        Returns
        -------
        Section
            This one.
        """
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode=True):
        """Set the mode; a frozen section stays in eval mode.

        With ``fixed_statistics``, what keeps running statistics stays in eval mode,
        too: BatchNorm layers, childless layers with a ``running_mean``, and calls of
        ``torch.nn.functional.batch_norm`` in a ``forward`` that could be traced. With
        ``fixed_shared``, so does any layer with buffers that the stages before the
        section use as well: these are frozen.
        """
        super().train(mode and not self.frozen)
        if self.fixed_statistics:
            for layer in self.modules():
                if _keeps_statistics(layer):
                    layer.eval()
        for layer in self.shared_layers():
            layer.eval()
        self._modes = [(m, m.training) for m in self.modules() if m is not self]
        return self

    def shared_layers(self):
        """Return the layers that must stay as they are for the stages before it.

        Returns
        -------
        list of torch.nn.Module
            Those with buffers; none without ``fixed_shared``.
        """
        if not self.fixed_shared:
            return []
        (backbone,) = self._backbone
        before = {*backbone.section(INPUT, self.start).modules()}
        shared = before.intersection(self.modules())
        return [m for m in shared if next(m.buffers(recurse=False), None) is not None]

    def replace_layers(self, layers):
        """Put layers in the place of others, here and in the whole network.

        Parameters
        ----------
        layers : dict of torch.nn.Module to torch.nn.Module
            From layers of this section to those that take their paths.
        """
        places = [
            (root, *path.rpartition(".")[::2], layers[layer])
            for root in (self, self.whole)
            for path, layer in root.named_modules(remove_duplicate=False)
            if layer in layers
        ]
        for root, parent, name, layer in places:
            setattr(root.get_submodule(parent), name, layer)
        self.train(self.training)  # those that came in take its modes

    def _adopt(self, root, target):
        """Register a leaf of the whole module here, under its name there."""
        *path, name = target.split(".")
        here, there = self, root
        for step in path:
            if step not in here._modules:
                here.add_module(step, nn.Module())
            here, there = here._modules[step], getattr(there, step)
        value = getattr(there, name)
        if isinstance(value, nn.Module):
            here.add_module(name, value)
        elif isinstance(value, nn.Parameter):
            here.register_parameter(name, value)
        elif isinstance(value, torch.Tensor):
            persistent = name not in there._non_persistent_buffers_set
            here.register_buffer(name, value, persistent=persistent)
            self._own_tensors.append((here, there, name))

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        # Parameters move in place; a buffer is replaced, and so it is there, too.
        for here, there, name in self._own_tensors:
            setattr(there, name, here._buffers[name])
        return self

    def __reduce__(self):
        (backbone,) = self._backbone
        state = {k: getattr(self, k) for k in _FLAGS}
        state["training"] = self.training
        return _section, (backbone, self.start, self.stop), state

    def __setstate__(self, state):
        for flag in _FLAGS:
            setattr(self, flag, state.get(flag, False))
        self.train(state["training"])

    def extra_repr(self):
        """Name the boundaries."""
        return f"{self.start!r} to {self.stop!r}"


def _section(backbone, start, stop):
    return backbone.section(start, stop)


def _keeps_statistics(layer):
    if isinstance(layer, _BatchNorm):
        return True
    childless = next(layer.children(), None) is None
    return childless and getattr(layer, "running_mean", None) is not None


def _fix_statistics(graph):
    """Let the calls of batch_norm use their running statistics, and not move them."""
    fixed = copy.deepcopy(graph)
    for node in fixed.nodes:
        if node.target not in _BATCH_NORMS or _running_mean(node) is None:
            continue
        if "training" in node.kwargs:
            node.update_kwarg("training", False)
        elif len(node.args) > _TRAINING:
            node.update_arg(_TRAINING, False)
    return fixed


def _running_mean(node):
    place = 1 if node.target is F.batch_norm else 3
    given = node.args[place : place + 1]
    return given[0] if given else node.kwargs.get("running_mean")


def _compile(graph):
    """Turn a graph into a function of (whole module, x)."""
    code = graph.python_code("self")
    namespace = dict(code.globals)
    exec(compile(code.src, "<sktransfer section>", "exec"), namespace)
    return namespace["forward"]


def fingerprint(section):
    """Hash what a section computes: its graph, its layers, their code and weights.

    Parameters
    ----------
    section : Section

    Returns
    -------
    str
        Hexadecimal, 32 digits. The same in every process; where a layer cannot be
        described, the same for this section alone.
    """
    return join_key(describe_section(section, section), section)


def describe_section(section, root, *, tensors=None):
    """Describe what a section computes in eval mode (Description).

    ``root`` holds the layers and tensors of the section under their names, and
    ``tensors`` the hashes that are known. The names of layers don't count.
    """
    numbers, steps = {}, []
    for node in section.graph.nodes:
        numbers[node] = len(numbers)
        target = node.target
        if node.op in ("call_module", "get_attr"):
            target = reduce(getattr, target.split("."), root)
        elif node.op in ("placeholder", "output"):
            target = None
        arguments = _plain([*node.args], numbers), _plain({**node.kwargs}, numbers)
        steps.append((node.op, target, *arguments))
    return describe(steps, tensors=tensors)


def _plain(value, numbers):
    """Put the numbers of nodes in their place, in containers of torch.fx as well."""
    if isinstance(value, fx.Node):
        return "node", numbers[value]
    if type(value) is tuple:
        return tuple(_plain(item, numbers) for item in value)
    if isinstance(value, list):
        return [_plain(item, numbers) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, numbers) for key, item in value.items()}
    if isinstance(value, slice):
        parts = value.start, value.stop, value.step
        return slice(*(_plain(part, numbers) for part in parts))
    return value


def fingerprint_tensors(tensors):
    """Hash tensors and their names (str), whatever computes with them.

    It is the same in every process, on any device and with any versions of the
    libraries.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\n".encode())
        update_with_tensor(digest, tensor)
    return digest.hexdigest()[:32]
