"""Sections of a network as modules that share its parameters, and fingerprints."""

import copy
import hashlib
from collections.abc import Mapping
from functools import reduce

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from sktransfer.backbones._stages import INPUT
from sktransfer.utils import describe, join_key, update_with_tensor

_BATCH_NORMS = (F.batch_norm, torch.batch_norm)
_FLAGS = ("frozen", "fixed_statistics", "fixed_shared")
_TRAINING = 5  # position of this argument in both functions


class Section(nn.Module):
    """Part of a backbone between two of its boundaries.

    Its parameters, buffers and submodules are those of the backbone's module that it
    uses, under the same names. Train and eval mode have a graph each, as the value of
    ``self.training`` is fixed in a traced graph. Sections may share layers: when a
    section runs, its layers are in its own mode. ``backbone`` is a Backbone, or
    another object whose ``module`` is the whole network, and ``layout`` that of the
    backbone which the graphs are of.
    """

    _shared: list[nn.Module] | None  # found when needed, as it takes a section

    def __init__(self, backbone, start, stop, graphs, layout=None):
        super().__init__()
        self.start = start
        self.stop = stop
        self._backbone = (backbone,)  # in a tuple: the whole is no submodule of a part
        self.frozen = False
        self.fixed_statistics = False
        self.fixed_shared = False
        self._use(graphs, layout)
        self.train(backbone.module.training)

    @property
    def backbone(self):
        """The backbone that the section is a part of."""
        return self._backbone[0]

    @property
    def graph(self) -> fx.Graph:
        """Graph of the section in eval mode, with the names of its layers."""
        return self._graphs[False]

    @property
    def code(self) -> str:
        """Python source of what the section computes in eval mode."""
        return self.graph.python_code("self").src

    @property
    def whole(self):
        """The whole network, which is no submodule of the section."""
        return self.backbone.module

    def forward(self, x):
        """Compute the activations (n, ...) at ``stop`` from those at ``start``."""
        self._follow()
        for layer, mode in self._modes:
            if layer.training != mode:  # changed by another section that shares it
                layer.training = mode
        return self._find_forward()(self.whole, x)

    def _find_forward(self):
        """Return the compiled forward function of the current mode."""
        mode = (self.training, self.training and self.fixed_statistics)
        if mode not in self._forwards:
            graph = self._graphs[self.training]
            graph = _fix_statistics(graph) if mode[1] else graph
            self._forwards[mode] = _compile(graph)
        return self._forwards[mode]

    def freeze(self):
        """Freeze parameters and buffers, also under ``train()``; return the section."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> "Section":
        """Set the mode. A frozen section stays in eval mode.

        With ``fixed_statistics``, layers that keep running statistics stay in eval
        mode, too, and ``torch.nn.functional.batch_norm`` uses the statistics without
        updating them. With ``fixed_shared``, :meth:`shared_layers` stay in eval mode.
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

    def shared_layers(self) -> list[nn.Module]:
        """Return the layers with buffers that the frozen stages before it use as well.

        There are none unless ``fixed_shared`` is set.
        """
        if not self.fixed_shared:
            return []
        if self._shared is None:
            before = {*self.backbone.section(INPUT, self.start).modules()}
            some = [m for m in self.modules() if m in before]
            self._shared = [m for m in some if [*m.buffers(recurse=False)]]
        return self._shared

    def replace_layers(self, layers: dict[nn.Module, nn.Module]) -> None:
        """Replace layers by others at their paths, here and in the whole network."""
        places = [
            (root, *path.rpartition(".")[::2], layers[layer])
            for root in (self, self.whole)
            for path, layer in root.named_modules(remove_duplicate=False)
            if layer in layers
        ]
        for root, parent, name, layer in places:
            setattr(root.get_submodule(parent), name, layer)
        self._shared = None
        self.train(self.training)  # also sets the mode of the new layers
        self.backbone.keep_layout()

    def _use(self, graphs, layout):
        """Compute graphs of the backbone, whose layout they are of."""
        self._graphs = graphs
        self._layout = layout
        self._forwards = {}  # by mode, each compiled when it is first called
        self._shared = None
        self._own_tensors = []
        nodes = [node for graph in graphs.values() for node in graph.nodes]
        for op in ("call_module", "get_attr"):  # layers first, as they own tensors
            for target in dict.fromkeys(n.target for n in nodes if n.op == op):
                self._adopt(self.whole, target)

    def _follow(self):
        """Use the graphs of the backbone as it is now, if its code was changed."""
        if self._layout is None or self.backbone.layout is self._layout:
            return
        now = self.backbone.section(self.start, self.stop)
        for held in (self._modules, self._parameters, self._buffers):
            held.clear()
        self._use(now._graphs, now._layout)
        self.train(self.training)

    def _adopt(self, root, target):
        """Register a layer or tensor of the whole module here, under the same name."""
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
        # Parameters move in place; buffers are replaced, also in the whole network.
        for here, there, name in self._own_tensors:
            setattr(there, name, here._buffers[name])
        return self

    def __reduce__(self):
        state = {k: getattr(self, k) for k in _FLAGS}
        state["training"] = self.training
        return _section, (self.backbone, self.start, self.stop), state

    def __setstate__(self, state):
        for flag in _FLAGS:
            setattr(self, flag, state.get(flag, False))
        self.train(state["training"])

    def extra_repr(self):
        """Return the names of the boundaries."""
        return f"{self.start!r} to {self.stop!r}"


def _section(backbone, start, stop):
    return backbone.section(start, stop)


def _keeps_statistics(layer):
    if isinstance(layer, _BatchNorm):
        return True
    childless = next(layer.children(), None) is None
    return childless and getattr(layer, "running_mean", None) is not None


def _fix_statistics(graph):
    """Return a graph whose calls of batch_norm do not update running statistics."""
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
    """Compile a graph into a function of (whole module, x)."""
    code = graph.python_code("self")
    namespace = dict(code.globals)
    exec(compile(code.src, "<sktransfer section>", "exec"), namespace)
    return namespace["forward"]


def fingerprint(section: Section) -> str:
    """Hash what a section computes: its graph, its layers, their code and weights.

    It is the same in every process. If a layer cannot be described, it is unique to
    this section object.
    """
    return join_key(describe_section(section, section), section)


def describe_section(section, root, *, tensors=None):
    """Describe what a section computes in eval mode, apart from names of layers.

    ``root`` holds its layers and tensors under their names, and ``tensors`` known
    hashes.
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
    """Replace nodes by their numbers, also inside containers of torch.fx."""
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


def fingerprint_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Hash tensors and their names.

    The hash is the same in every process, on every device and with all versions of the
    libraries.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\n".encode())
        update_with_tensor(digest, tensor)
    return digest.hexdigest()[:32]
