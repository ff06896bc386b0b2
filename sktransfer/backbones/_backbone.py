"""A pretrained network as an ordered sequence of stages."""

import copy
import numbers
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import nn

from sktransfer.backbones._boundaries import graphs_between
from sktransfer.backbones._layout import (
    Layout,
    WatchedLayout,
    find_layout,
    is_compared,
    no_boundary_text,
    no_tensor_text,
)
from sktransfer.backbones._probe import output_digests
from sktransfer.backbones._sections import (
    Section,
    describe_section,
    fingerprint_tensors,
)
from sktransfer.backbones._stages import FEATURES, INPUT, OUTPUT, Stage
from sktransfer.backbones._wrappers import unwrap
from sktransfer.compute import default_torch_state, undisturbed
from sktransfer.inputs import Preprocessing
from sktransfer.utils import Description, TensorDigests, Watch, join_key, on_cpu


class Backbone:
    """A network, its stages, and the preprocessing that its weights expect.

    The whole network stays in ``module``; :meth:`split` cuts it after any stage or
    block into two modules that share its parameters. A :class:`StagedModule` declares
    its stages. Those of any other network are found on the graph that ``torch.fx``
    traces; a network that cannot be traced is a single stage.

    Parameters
    ----------
    module : torch.nn.Module
        Network of one argument: a tensor of shape ``(n, *preprocessing.input_shape)``,
        or a group of tensors as of ``preprocessing.example(n)``. It is not copied, but
        ``inplace`` of its layers is set to False where that changes no result.
    preprocessing : ImagePreprocessing, VectorPreprocessing or Preprocessing
        Converts samples to model inputs, as in the training of the weights.
    name : str, default=None
        By default the name of the module's class.
    provider : str, default=None
        Name of the provider, one of :func:`list_providers`. None for a user's module.
    weights : str, default=None
        Name of the weights. None for random ones.
    license : str, default=None
        License of the weights as the provider states it. None if it is not stated.
    classifier : str or sequence of str, default=None
        Paths of the network's own classifying layers. No stage contains them or what
        comes after them. By default the last layer with weights if it has a usual name
        (``fc``, ``classifier``, ``head``, …).

    See Also
    --------
    load_backbone : Makes a backbone from a name, a module or a callable.

    Examples
    --------
    >>> from sktransfer.backbones import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0")
    >>> [stage.name for stage in backbone.stages][:3]
    ['stem', 'blocks.0', 'blocks.1']
    >>> prefix, suffix = backbone.split("blocks.4")
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocessing: Preprocessing,
        name: str | None = None,
        provider: str | None = None,
        weights: str | None = None,
        license: str | None = None,
        classifier: str | Sequence[str] | None = None,
    ):
        self._module: Any = module  # None in a fork until it is read
        self.preprocessing = preprocessing
        self.name = type(module).__name__ if name is None else name
        self.provider = provider
        self.weights = weights
        self.license = license
        self.classifier = [classifier] if isinstance(classifier, str) else classifier
        self._known_impurity = None
        self._origin: Any = None  # of a fork
        self._forget()

    def _forget(self):
        """Reset all that is computed once for given weights and code."""
        self._watched: WatchedLayout | None = None  # found when it is needed
        self._frozen_sections = {}
        self._descriptions = {}
        self._tensors = TensorDigests()
        self._digests = None
        self.prepared_sections = {}
        self.precision_errors = {}
        self.card = None

    @property
    def module(self) -> nn.Module:
        """The whole network; a fork copies it when it is first read."""
        if self._module is None:
            twin = copy.deepcopy(self._origin[0])
            self._module, self._watched = twin._module, twin._watched
        return self._module

    @property
    def _weights(self):
        """The whole network for reading its weights, without copying that of a fork."""
        return self._origin[0]._weights if self._module is None else self._module

    @property
    def _layout(self):
        if self._module is None:
            return self._origin[0]._layout
        if self._watched is None:
            with undisturbed():
                self._find_layout()
        return self._watched.layout

    def _find_layout(self):
        if self._watched is None:  # no other thread has found it
            of = self.name, self.preprocessing, self.classifier, self._known_impurity
            found = find_layout(self.module, *of)
            self._module, self._known_impurity = found.module, found.impurity
            self._watched = WatchedLayout(found, Watch(found.module))

    @property
    def layout(self) -> Layout:
        """Boundaries of the network, found again if code, settings or hooks changed."""
        self._follow()
        return self._layout

    def _follow(self):
        """Forget the layout, and that of the origin, if the network has changed."""
        if is_compared(self):
            return
        if self._origin is not None:
            self._origin[0]._follow()
        if self._watched is not None and self._watched.watch.has_changed():
            self._forget()

    def keep_layout(self) -> None:
        """Let the layout hold for the network as it is, after layers were replaced."""
        if self._watched is not None:
            self._watched = WatchedLayout(self._layout, Watch(self.module))

    @property
    def _staged_graph(self):
        return self._layout.staged_graphs[False]

    @property
    def stages(self) -> list[Stage]:
        """Stages in order of execution (list of Stage)."""
        return self.layout.staged_graphs[False].stages

    @property
    def stage_names(self) -> list[str]:
        """Names of the stages in order of execution (list of str)."""
        return [stage.name for stage in self.stages]

    @property
    def boundaries(self) -> Mapping[str, int | None]:
        """Names of the stages and blocks in order, with the index of the last node."""
        return self.layout.staged_graphs[False].listed

    @property
    def impurity(self) -> str | None:
        """Reason why the output is not a function of the sample alone, or None.

        With a reason, samples go through one at a time and no activations are stored.
        """
        return self.layout.impurity

    @property
    def network(self) -> nn.Module:
        """The network as it was given; `module` wraps one that cannot be cut."""
        return unwrap(self.module)

    @property
    def own_pooling(self) -> tuple[str, bool]:
        """How features are pooled by default, and whether they get unit length."""
        return self._layout.own_pooling

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the whole network."""
        return sum(p.numel() for p in self._weights.parameters())

    def split(self, where: int | str) -> tuple[Section, Section]:
        """Cut the network in two.

        Parameters
        ----------
        where : int or str
            Number of stages before the cut (if negative, minus the number of stages
            after it), or the name of the stage, block or submodule before it.

        Returns
        -------
        prefix, suffix : Section
            Modules that share the network's parameters. ``suffix(prefix(x))`` equals
            ``module(x)``.

        Raises
        ------
        ValueError
            If there is no such boundary.
        """
        name = self.boundary(where)
        return self.section(INPUT, name), self.section(name, OUTPUT)

    def boundary(self, where: int | str) -> str:
        """Return the name of the boundary that an argument of :meth:`split` means.

        Other boundaries are ``"input"``, ``"features"`` (in front of the network's own
        classifier) and ``"output"``.
        """
        names = self.stage_names
        if isinstance(where, numbers.Integral) and not isinstance(where, bool):
            if -len(names) <= where <= len(names):
                k = int(where) if where >= 0 else len(names) + int(where)
                return names[k - 1] if k else INPUT
        elif isinstance(where, str) and where in self._staged_graph.ends:
            return where
        raise ValueError(no_boundary_text(self.name, names, self.boundaries, where))

    def n_stages_before(self, boundary: str) -> int:
        """Return the number of whole stages before a boundary."""
        return self._staged_graph.n_stages_before(boundary)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return the distinct boundaries among names in order of execution."""
        return sorted(dict.fromkeys(names), key=self._staged_graph.place)

    def section(self, start: str, stop: str) -> Section:
        """Return the part of the network between two boundaries."""
        layout = self.layout
        graphs = graphs_between(layout.staged_graphs, start, stop)
        return Section(self, start, stop, graphs, layout)

    def frozen_section(self, start: str, stop: str) -> Section:
        """Return a frozen section, which is made once."""
        owner = self.owner(stop)
        if owner is not self:
            return owner.frozen_section(start, stop)
        if (start, stop) not in self._frozen_sections:
            self._frozen_sections[start, stop] = self.section(start, stop).freeze()
        return self._frozen_sections[start, stop]

    def classifier_layers(self) -> list[str]:
        """Return the paths of layers and tensors after the features, in no stage."""
        stages = self.section(INPUT, FEATURES).state_dict().keys()
        tensors = self.section(FEATURES, OUTPUT).state_dict().keys() - stages
        return sorted({name.rpartition(".")[0] or name for name in tensors})

    def activation_shape(self, boundary: str) -> tuple | dict[str, tuple]:
        """Return the shape of one sample's activation at a boundary.

        Returns
        -------
        tuple of int, or dict of str to tuple of int
            A dict for a group of tensors. Where shapes differ from batch to batch,
            that of ``preprocessing.example``.

        Raises
        ------
        TypeError
            If the boundary is the output, and the network returns no tensor.
        """
        trace, end = self._staged_graph.trace, self._staged_graph.ends[boundary]
        if end is not None:
            return trace.shapes[trace.nodes.index(trace.live[end][0])]
        if not trace.returns_tensor:
            raise TypeError(no_tensor_text(self.name, trace))
        return trace.shapes[len(trace.nodes) - 1]

    def multiply_adds(self, start: str, stop: str) -> int:
        """Return the multiply-adds per sample between two boundaries."""
        return self._staged_graph.multiply_adds(start, stop)

    @property
    def largest_activation_bytes(self) -> int:
        """Bytes per sample of the largest state in the network, in float32."""
        return 4 * self._staged_graph.trace.most_values

    def fork(self, boundary: str) -> "Backbone":
        """Return a copy whose stages up to a boundary stay those of this backbone.

        Sections before the boundary and their fingerprints are those of this backbone,
        whose weights must not change.
        """
        return self._with_module(None, (self, boundary))

    def owner(self, boundary: str) -> "Backbone":
        """Return the backbone that owns the weights before a boundary.

        It is this one, or one that it was forked from at this boundary or a later one.
        """
        if self._origin is None:
            return self
        origin, last = self._origin
        place = self._staged_graph.place
        return origin.owner(boundary) if place(boundary) <= place(last) else self

    def _with_module(self, module, origin=None):
        """Return a backbone with other weights, without a layout."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin._module, twin._origin = module, origin
        twin._forget()
        return twin

    def __deepcopy__(self, memo):
        """Copy the network. The layout that was found holds for the copy."""
        twin = self.untraced(memo)
        twin._watched = self._watched and self._watched.copied_to(twin.module)
        return twin

    def untraced(self, memo: dict | None = None) -> "Backbone":
        """Return a copy whose layout is found again, as for another preprocessing."""
        return self._with_module(copy.deepcopy(self.module, memo))

    def __getstate__(self):
        # Tracing again is exact, and what is on a GPU could only be loaded on one.
        return vars(self._with_module(on_cpu(self._weights)))

    def __repr__(self):
        with suppress(Exception):  # a network that cannot take its model inputs
            return f"<Backbone {self.name}, {len(self.stages)} stages>"
        return f"<Backbone {self.name}, unknown stages>"

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the architecture and all weights (str)."""
        section = self.section(INPUT, OUTPUT)
        return join_key(describe_section(section, self._weights), self._weights)

    def prefix_fingerprint(self, boundary: str) -> str:
        """Return the fingerprint of all that the prefix computes (str).

        It joins hashes of the code, settings and weights of the prefix and of its
        output for two model inputs. The weights must not change after the first call,
        but code that belongs to no library is hashed each time, as a cell of a notebook
        may be edited. If it cannot be described, the output is computed each time.
        """
        owner = self.owner(boundary)
        description = owner.describe_prefix(boundary)
        if not description.is_complete:
            owner._digests = None
        key = join_key(description, owner._weights)
        return f"{key} {owner.probe_digest(boundary)}"

    def describe_prefix(self, boundary: str) -> Description:
        """Describe what the prefix computes.

        If the description is not complete, :meth:`prefix_fingerprint` holds for this
        object only, and its activations must not be kept beyond the process.
        """
        owner = self.owner(boundary)
        if owner is not self:
            return owner.describe_prefix(boundary)
        known = self._descriptions.get(boundary)
        if known is None or known.has_code:
            section = self.section(INPUT, boundary)
            known = describe_section(section, self._weights, tensors=self._tensors)
            self._descriptions[boundary] = known
        return known

    def probe_digest(self, boundary: str) -> str:
        """Return a hash of the output of the prefix for two model inputs.

        It is computed once, in float32 on one thread of the CPU, alike in every process
        of this machine, and detects differences that neither code nor weights show.
        """
        owner = self.owner(boundary)
        if owner is not self:
            return owner.probe_digest(boundary)
        if self._digests is None:
            with undisturbed(), default_torch_state():
                trace, example = self._staged_graph.trace, self.preprocessing.example(2)
                self._digests = output_digests(self.module, trace, example)
        return self._digests[self._staged_graph.ends[boundary]]

    def weights_fingerprint(self, boundary: str) -> str:
        """Return the fingerprint of weights before a boundary, without code (str)."""
        section = self.owner(boundary).section(INPUT, boundary)
        return fingerprint_tensors(section.state_dict())
