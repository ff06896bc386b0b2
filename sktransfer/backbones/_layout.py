"""Layout of a network: its declared stages, traced stages, or a single one."""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sktransfer.backbones._boundaries import shape_of_sample, shape_text, tensors_in
from sktransfer.backbones._images import channels_error, check_patches
from sktransfer.backbones._probe import probe
from sktransfer.backbones._stages import (
    FEATURES,
    INPUT,
    OUTPUT,
    StagedGraph,
    declared_graph,
    find_staged_graphs,
)
from sktransfer.backbones._trace import CONSTANT, Trace, trace_declared, trace_network
from sktransfer.backbones._tracer import TraceError
from sktransfer.backbones._wrappers import Called, Unpacked, Whole
from sktransfer.compute import default_torch_state, seeded
from sktransfer.inputs import try_preprocessing
from sktransfer.utils import Watch, near_matches


class StagedModule(nn.Module):
    """Network that declares its stages, for networks that cannot be traced.

    The stages run one after the other, and then the final step. Each stage is a module
    whose ``forward`` takes one state and returns the next one:

    - A state is one tensor, or a dict of tensors, such as the hidden states of a
      sequence and, under the name "mask", which of them are not padding. The first
      dimension of each tensor is that of the samples. The other dimensions may differ
      from batch to batch.
    - The first stage takes the model inputs, which are a state as well.
    - The last stage returns the features. The final step returns the output, which is
      one tensor.
    - A stage must not change its input in place, and must return everything that later
      stages need, such as the mask. Its output for a sample must not depend on the
      other samples of the batch.

    :class:`Backbone` and :func:`load_backbone` use these stages as boundaries instead
    of tracing the network. In everything else it is like any other network.

    Parameters
    ----------
    stages : dict or sequence of (str, torch.nn.Module)
        Names and modules in order of execution. A name must not be empty, hold a dot,
        or be "input", "features" or "output".
    final : torch.nn.Module, default=None
        Module from the last state to the output, such as pooling and a classifier. By
        default the last state is the output.
    pooling : {"avg", "max", "avgmax", "cls", "last"}, default="avg"
        How the features are pooled to a vector where ``pooling="auto"``.
    normalize : bool, default=False
        Whether such a vector is divided by its Euclidean norm.

    Attributes
    ----------
    stages : torch.nn.ModuleDict
        The stages by name.
    final : torch.nn.Module or None
        The final step.
    own_pooling : tuple of (str, bool)
        The parameters `pooling` and `normalize`.

    Raises
    ------
    TypeError
        If a stage is not a module.
    ValueError
        If there are no stages, or a name is not allowed.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.backbones import StagedModule, load_backbone
    >>> stages = {"embed": nn.Linear(4, 8), "layer0": nn.Linear(8, 8)}
    >>> backbone = load_backbone(StagedModule(stages, final=nn.Linear(8, 2)))
    >>> backbone.stage_names
    ['embed', 'layer0']
    """

    def __init__(
        self,
        stages: "Mapping[str, nn.Module] | Iterable[tuple[str, nn.Module]]",
        final: "nn.Module | None" = None,
        *,
        pooling: str = "avg",
        normalize: bool = False,
    ):
        super().__init__()
        pairs = [*(stages.items() if isinstance(stages, Mapping) else stages)]
        _check_declared(pairs)
        self.stages = nn.ModuleDict(dict(pairs))
        self.final = final
        self.own_pooling = pooling, normalize

    def forward(self, x: Any) -> torch.Tensor:
        """Compute the output.

        Parameters
        ----------
        x : torch.Tensor or dict of str to torch.Tensor
            Model inputs.

        Returns
        -------
        torch.Tensor of shape (n, ...)
            Output of the final step.
        """
        for stage in self.stages.values():
            x = stage(x)
        return x if self.final is None else self.final(x)


def _check_declared(pairs):
    names = [name for name, _ in pairs]
    if not pairs or len({*names}) < len(names) or not all(map(_is_name, names)):
        raise ValueError(
            "`stages` must hold at least one module, under distinct names that are "
            "not empty, hold no dot, and are none of 'input', 'features', 'output' "
            f"and the attributes of a ModuleDict. Got {names}."
        )
    for name, module in pairs:
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"`stages` must be modules. {name!r} is a {type(module).__name__}."
            )


def _is_name(name):
    if not isinstance(name, str) or not name or "." in name:
        return False
    return name not in (INPUT, FEATURES, OUTPUT) and not hasattr(nn.ModuleDict(), name)


def _place_of(value: object) -> str:
    """Write how to get a tensor out of a container, such as ``['features'][-1]``.

    It is the last part of a list, as maps go from the first layers to the last ones,
    and the first part of a dict, which begins with the output.
    """
    if isinstance(value, dict):
        keys = [key for key in value if tensors_in(value[key])]
        return f"[{keys[0]!r}]{_place_of(value[keys[0]])}" if keys else "['name']"
    if isinstance(value, tuple | list):
        at = [i for i, part in enumerate(value) if tensors_in(part)]
        last = at[-1] - len(value) if at else -1
        return f"[{last}]{_place_of(value[last])}" if at else "[-1]"
    return "" if isinstance(value, torch.Tensor) else ".name"


@dataclass(frozen=True)
class Layout:
    """A network whose boundaries are known.

    ``module`` is the network, wrapped if it cannot be cut. ``staged_graphs`` has a
    graph for train mode (True) and one for eval mode (False). ``impurity`` is the
    reason why the output for a sample is no function of it, and ``own_pooling`` how the
    network pools its features, and whether to unit length.
    """

    module: nn.Module
    staged_graphs: dict[bool, StagedGraph]
    impurity: str | None
    own_pooling: tuple[str, bool]


_use = threading.local()  # whose `backbones` have been compared with their layouts


@contextmanager
def use_of_backbones() -> Iterator[None]:
    """Set torch as in a new process, and compare each backbone with its layout once.

    The code of networks must not change inside the `with` block. It is also a
    decorator.
    """
    outer = getattr(_use, "backbones", None)
    _use.backbones = {} if outer is None else outer
    try:
        with default_torch_state():
            yield
    finally:
        _use.backbones = outer


def is_compared(backbone: object) -> bool:
    """Return whether a backbone was compared in this use; from now on, it counts so."""
    known = getattr(_use, "backbones", None)
    if known is None or id(backbone) in known:
        return known is not None
    known[id(backbone)] = backbone  # which keeps it alive
    return False


@dataclass(frozen=True)
class WatchedLayout:
    """A layout, and a watch that notices changes of the network since it was found."""

    layout: Layout
    watch: Watch

    def copied_to(self, module: nn.Module) -> "WatchedLayout | None":
        """Return the layout of a copy of the network; None if the network changed."""
        if self.watch.has_changed():
            return None
        return WatchedLayout(self.layout, Watch(module, self.watch.digest))


@default_torch_state()
def find_layout(
    module, name, preprocessing, classifier=None, known_impurity=None
) -> Layout:
    """Find the boundaries of a network, and check them by running it.

    ``classifier`` are paths of the network's own classifying layers. A known impurity
    gives no second warning. Raises a TypeError if the network or a declared stage
    returns a wrong type, and a ValueError if it cannot be run or its declared stages do
    not compute the same as the whole.
    """
    finder = _Finder(name, preprocessing, classifier)
    module, staged_graphs = finder.lay_out(module)
    found = probe(module, staged_graphs, preprocessing.example(5))
    if found.difference and isinstance(module, StagedModule):
        raise ValueError(
            f"The stages of {name} must compute together what it does as a whole, and "
            f"must not change their input in place. {found.difference[:1].upper()}"
            f"{found.difference[1:]}."
        )
    if found.difference and not isinstance(module, Whole):
        module, staged_graphs = finder.as_one_stage(module)
        _warn(
            f"{name} is a single stage, as its parts do not compute together what it "
            f"does as a whole: {found.difference}. `freeze` can be 'all' or 'none'."
        )
    if found.overwrites and isinstance(module, Whole):
        for staged in staged_graphs.values():
            staged.trace.overwritten.add(staged.trace.nodes[0])
    impurity = found.impurity or try_preprocessing(preprocessing).impurity
    if impurity and not known_impurity:
        _warn(
            f"Samples go through {name} one at a time, and none of its activations "
            f"are stored: {impurity}."
        )
    own_pooling = getattr(module, "own_pooling", ("avg", False))
    return Layout(module, staged_graphs, impurity, own_pooling)


def _warn(text):
    warnings.warn(text, stacklevel=5)


@dataclass(frozen=True)
class _Finder:
    """Finds the boundaries of a network by different means."""

    name: str
    preprocessing: object
    classifier: object

    def lay_out(self, module):
        if isinstance(module, StagedModule):
            return self._as_declared(module)
        if isinstance(module, Whole):
            return module, self._as_traced(module)
        try:
            return module, self._as_traced(module)
        except TraceError as error:
            found = self.as_one_stage(module)
            _warn(
                f"{self.name} cannot be traced by torch.fx ({_first_line(error)}), so "
                "it is a single stage: `freeze` can be 'all' or 'none'."
            )
            return found

    def _as_declared(self, module):
        paths = [f"stages.{name}" for name in module.stages]
        paths += [] if module.final is None else ["final"]
        try:
            trace = trace_declared(module, paths, self.preprocessing.example(3))
        except TraceError as error:
            raise self._cannot_run(error) from error
        check_patches(self.name, trace, module)
        has_final = module.final is not None
        staged = declared_graph(trace, [*module.stages], has_final)
        return module, {False: staged, True: staged}

    def as_one_stage(self, module):
        is_plain = type(module).__call__ is nn.Module.__call__
        whole = Whole(OrderedDict(network=module if is_plain else Called(module)))
        whole.training = module.training
        try:
            return whole, self._as_traced(whole)
        except TraceError as error:
            raise self._cannot_run(error) from error

    def _cannot_run(self, error):
        """Return the error for a network that cannot take its model inputs."""
        if wrong := channels_error(self.name, error):
            return wrong
        shape = shape_text(shape_of_sample(self.preprocessing.example(1)))
        hint = getattr(self.preprocessing, "shape_hint", "")
        return ValueError(
            f"{self.name} cannot be run on model inputs of shape {shape} "
            f"({_first_line(error)}). {hint}".strip()
        )

    def _as_traced(self, module):
        # torch.fx leaves tensors that a forward method makes in the module.
        for name in [n for n in vars(module) if n.startswith(CONSTANT)]:
            delattr(module, name)
        traces = self._traces(module)
        returned = traces[False].returned
        if isinstance(module, Whole) and not isinstance(returned, torch.Tensor):
            if len(tensors_in(returned)) == 1:
                module.network = Unpacked(module.network)
                traces = self._traces(module)
        check_patches(self.name, traces[False], module)
        staged_graphs = find_staged_graphs(traces, module, self.classifier)
        if not staged_graphs[False].stages:
            raise _no_stage_error(self.name, traces)
        return staged_graphs

    def _traces(self, module):
        example = self.preprocessing.example(3)
        leaves = ("network",) if isinstance(module, Whole) else ()
        with seeded(0):  # other threads that need this network wait until it is done
            return {
                mode: trace_network(module, example, training=mode, leaves=leaves)
                for mode in (False, True)
            }


def no_tensor_text(name: str, trace: Trace) -> str:
    """Return the message for a network that returns no single tensor."""
    value = trace.returned
    kind = type(value).__name__.removeprefix("immutable_")  # torch.fx's dict
    return (
        f"{name} returns a value of type {kind}, but a backbone must return one "
        "tensor. Wrap it in an nn.Module whose `forward` returns the tensor to go on "
        f"from, as in `return self.network(x){_place_of(value)}`."
    )


def _no_stage_error(name, traces):
    """Return the error for a network whose output has no features of the samples."""
    several = [trace for trace in traces.values() if not trace.returns_tensor]
    if several:
        return TypeError(no_tensor_text(name, several[0]))
    returned = traces[False].returned
    kind = str(returned.dtype).removeprefix("torch.")
    return ValueError(
        f"{name} must return one row of floating point numbers per sample, as in a "
        f"shape (n, ...). For n = 2 it returned shape {tuple(returned.shape)} of "
        f"{kind}. Wrap it in an nn.Module whose `forward` returns such rows."
    )


def no_boundary_text(name: str, stages: list, boundaries: Iterable, where: Any) -> str:
    """Return the message for an argument that means none of the boundaries."""
    near = near_matches(str(where), list(boundaries))
    return (
        f"{name} has no boundary {where!r}. It must be one of {stages}, a block inside "
        f"them (see `describe_backbone`), or an int in [{-len(stages)}, {len(stages)}]."
        f"{near}"
    )


def _first_line(error):
    return str(error).strip().splitlines()[0]
