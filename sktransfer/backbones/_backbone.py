"""A pretrained network as an ordered sequence of stages."""

import copy
import math
import numbers
import warnings
from collections import OrderedDict
from dataclasses import replace
from functools import cached_property

from torch import nn

from sktransfer.backbones._fingerprint import fingerprint
from sktransfer.backbones._sections import Section
from sktransfer.backbones._stages import (
    Stage,
    find_classifier,
    find_stages,
    last_boundary,
)
from sktransfer.backbones._trace import TraceError, section_graph, trace_network
from sktransfer.utils import near_matches

__all__ = ["Backbone"]

INPUT, FEATURES, OUTPUT = "input", "features", "output"
_RESERVED = {name: f"{name}_" for name in (INPUT, FEATURES, OUTPUT)}


class Backbone:
    """A network, its stages, and the preprocessing that its weights expect.

    The whole network stays in one piece in ``module``; :meth:`split` cuts it after any
    stage or block into two modules that share its parameters. The points where it can
    be cut are found on the traced graph (``torch.fx``), so they exist for any
    architecture whose forward pass can be traced; one that cannot is a single stage.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one tensor of shape ``(n, *preprocessing.input_shape)``. It is not copied;
        layers that overwrite their input (``inplace=True``) are told not to where that
        changes no result, since it would overwrite activations at a boundary.
    preprocessing : ImagePreprocessing or VectorPreprocessing
        What turns a sample into the model input that the weights were trained on.
    name : str, default=None
        What to call it. By default the name of the module's class.
    provider : str, default=None
        Where it came from: ``"shipped"``, ``"torchvision"``, ``"timm"`` or None.
    weights : str, default=None
        What the weights are called. None for random weights.
    licence : str, default=None
        Licence of the weights where the provider states one.
    classifier : sequence of str, default=None
        Paths of the network's own classifying layers. By default the last layers
        with weights if they are named as usual (``fc``, ``classifier``, ``head``, …).
        Everything from there on is not part of the stages.

    Attributes
    ----------
    module : torch.nn.Module
        The whole network.
    stages : list of Stage
        In order of execution.
    fingerprint : str
        Of the architecture and of every weight.

    See Also
    --------
    load_backbone : Makes one from a name, a path, a module or a callable.

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
        module,
        *,
        preprocessing,
        name=None,
        provider=None,
        weights=None,
        licence=None,
        classifier=None,
    ):
        self.module = module
        self.preprocessing = preprocessing
        self.name = type(module).__name__ if name is None else name
        self.provider = provider
        self.weights = weights
        self.licence = licence
        self.classifier = classifier
        self._frozen_sections = {}
        self._fingerprints = {}

    @property
    def stages(self):
        """List of Stage, in order of execution."""
        return self._anatomy.stages

    @property
    def stage_names(self):
        """List of str, in order of execution."""
        return [stage.name for stage in self.stages]

    @property
    def boundaries(self):
        """Dict of the name of each stage and block to its place, in order."""
        return self._anatomy.listed

    @property
    def n_parameters(self):
        """Number of parameters of the whole network."""
        return sum(p.numel() for p in self.module.parameters())

    def split(self, where):
        """Cut the network in two.

        Parameters
        ----------
        where : int or str
            After so many stages (negative: before the last so many), or after the
            stage, block or submodule of this name.

        Returns
        -------
        prefix, suffix : Section
            ``suffix(prefix(x))`` equals ``module(x)``. They share its parameters.

        Raises
        ------
        ValueError
            If there is no such boundary.
        """
        name = self.boundary(where)
        return self.section(INPUT, name), self.section(name, OUTPUT)

    def boundary(self, where):
        """Return the name of the boundary after so many stages, or of this name.

        Parameters
        ----------
        where : int or str
            As in :meth:`split`; also ``"input"``, ``"features"`` (in front of the
            network's own classifier) and ``"output"``.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If there is no such boundary.
        """
        names = self.stage_names
        if isinstance(where, numbers.Integral) and not isinstance(where, bool):
            if not -len(names) <= where <= len(names):
                raise ValueError(self._no_boundary(where))
            k = int(where) if where >= 0 else len(names) + int(where)
            return names[k - 1] if k else INPUT
        if not isinstance(where, str) or where not in self._anatomy.ends:
            raise ValueError(self._no_boundary(where))
        return where

    def n_stages_before(self, boundary):
        """Return how many whole stages lie before a boundary (int)."""
        end = self._anatomy.ends[boundary]
        if end is None:
            return len(self.stages)
        return sum(s.end is not None and s.end <= end for s in self.stages)

    def in_order(self, names):
        """Return the distinct boundaries of these names in order of execution (list).

        Parameters
        ----------
        names : iterable of str
        """
        ends = self._anatomy.ends
        last = len(self._anatomy.trace.nodes)
        place = {n: last if ends[n] is None else ends[n] for n in names}
        return sorted(place, key=place.__getitem__)

    def section(self, start, stop):
        """Return the part of the network between two boundaries.

        Parameters
        ----------
        start, stop : str
            Names of boundaries, see :meth:`boundary`.

        Returns
        -------
        Section
        """
        graphs = {}
        for training, anatomy in self._by_mode.items():
            ends = anatomy.ends
            graphs[training] = section_graph(anatomy.trace, ends[start], ends[stop])
        return Section(self, start, stop, graphs)

    def fork(self, boundary):
        """Return a backbone with weights of its own above a boundary.

        Parameters
        ----------
        boundary : str
            The weights before it are shared with this backbone, and must not change.

        Returns
        -------
        Backbone
        """
        prefix = self.section(INPUT, boundary)
        shared = {id(t): t for t in [*prefix.parameters(), *prefix.buffers()]}
        twin = copy.copy(self)
        twin.module = copy.deepcopy(self.module, shared)
        twin._frozen_sections = {}
        below = self.in_order([*self._fingerprints, boundary])
        below = below[: below.index(boundary) + 1]
        known = self._fingerprints
        twin._fingerprints = {b: known[b] for b in below if b in known}
        return twin

    def frozen_section(self, start, stop):
        """Return a section in eval mode that is made once (Section).

        Parameters
        ----------
        start, stop : str
            Names of boundaries.
        """
        if (start, stop) not in self._frozen_sections:
            section = self.section(start, stop).freeze()
            self._frozen_sections[start, stop] = section
        return self._frozen_sections[start, stop]

    def prefix_fingerprint(self, boundary):
        """Return a text that changes with anything that the prefix computes (str).

        Weights above the boundary don't count. It is computed once, so the weights
        below must not change any more.

        Parameters
        ----------
        boundary : str
        """
        if boundary not in self._fingerprints:
            section = self.section(INPUT, boundary)
            self._fingerprints[boundary] = fingerprint(section)
        return self._fingerprints[boundary]

    def activation_shape(self, boundary):
        """Return the shape of one sample's activation at a boundary (tuple)."""
        trace, end = self._anatomy.trace, self._anatomy.ends[boundary]
        if end is None:
            return trace.shapes[trace.nodes.index(trace.nodes[-1].args[0])]
        return trace.shapes[trace.nodes.index(trace.live[end][0])]

    def multiply_adds(self, start, stop):
        """Return the multiply-adds of one sample from one boundary to another (int)."""
        trace, ends = self._anatomy.trace, self._anatomy.ends
        first = len(trace.nodes) if ends[start] is None else ends[start]
        last = len(trace.nodes) if ends[stop] is None else ends[stop]
        return sum(n for i, n in trace.multiply_adds.items() if first < i <= last)

    @property
    def largest_activation_bytes(self):
        """Bytes of the largest tensor inside the network, of a sample in float32."""
        return 4 * max(math.prod(s) for s in self._anatomy.trace.shapes.values())

    @property
    def fingerprint(self):
        """Text that changes with the architecture and with any weight."""
        return fingerprint(self.section(INPUT, OUTPUT))

    def _no_boundary(self, where):
        names = self.stage_names
        near = near_matches(str(where), list(self.boundaries))
        return (
            f"{self.name} has no boundary {where!r}. It must be one of {names}, a "
            f"block inside them (see `describe_backbone`), or an int in "
            f"[{-len(names)}, {len(names)}].{near}"
        )

    @cached_property
    def _by_mode(self):
        """The anatomy in train and eval mode, with the same boundaries in both."""
        try:
            return self._trace_both(self.module)
        except TraceError as error:
            anatomies = self._as_one_stage()
            warnings.warn(
                f"{self.name} cannot be traced by torch.fx ({_first_line(error)}), so "
                "it is a single stage: `freeze` can be 'all' or 'none'.",
                stacklevel=2,
            )
            return anatomies

    def _as_one_stage(self):
        whole = nn.Sequential(OrderedDict(network=self.module))
        whole.training = self.module.training
        try:
            anatomies = self._trace_both(whole)
        except TraceError as error:
            raise ValueError(
                f"{self.name} cannot be run on model inputs of shape (n, "
                f"{', '.join(map(str, self.preprocessing.input_shape))}): "
                f"{_first_line(error)} If it takes one image size only, leave "
                "`image_size` out or make a network for the size that you want."
            ) from error
        self.module = whole
        return anatomies

    def _trace_both(self, module):
        # Tensors that a forward method makes are left in the module by torch.fx.
        for name in [n for n in vars(module) if n.startswith("_tensor_constant")]:
            delattr(module, name)
        example = self.preprocessing.example(3)
        traces = {m: trace_network(module, example, training=m) for m in (False, True)}
        return _anatomies(traces, module, self.classifier)

    @property
    def _anatomy(self):
        return self._by_mode[False]

    def __getstate__(self):
        # Graphs hold compiled functions; tracing again is cheap and exact.
        state = {k: v for k, v in self.__dict__.items() if k != "_by_mode"}
        return {**state, "_frozen_sections": {}, "_fingerprints": {}}

    def __repr__(self):
        return f"<Backbone {self.name}, {len(self.stages)} stages>"


class _Anatomy:
    """Where the boundaries of a network lie in one of its two graphs."""

    def __init__(self, trace, ends, stages, listed):
        self.trace = trace
        self.ends = ends
        self.stages = stages
        self.listed = listed


def _anatomies(traces, module, classifier):
    """Find the boundaries on the eval graph that exist on the train graph, too."""
    eval_, train = traces[False], traces[True]
    twin = _twin_boundaries(eval_, train)
    first = find_classifier(eval_, module, classifier)
    limit = last_boundary(eval_, twin, first)
    stages = find_stages(eval_, module, twin.keys(), limit)
    stages = [_renamed(s) for s in stages] or [Stage("network", (), None)]
    names = {_RESERVED.get(p, p): i for p, i in eval_.ends.items() if i in twin}
    ends = {INPUT: -1, **names, **{s.name: s.end for s in stages}}
    ends[FEATURES] = None if first is None else limit
    ends[OUTPUT] = None
    blocks = [n for s in stages for n in (*s.blocks, s.name)]
    listed = {n: ends[n] for n in blocks}
    ends_in_train = {n: None if e is None else twin[e] for n, e in ends.items()}
    return {
        False: _Anatomy(eval_, ends, stages, listed),
        True: _Anatomy(train, ends_in_train, stages, listed),
    }


def _renamed(stage):
    """Tell submodules called "input", "features" or "output" from the boundaries."""
    blocks = tuple(_RESERVED.get(name, name) for name in stage.blocks)
    return replace(stage, name=_RESERVED.get(stage.name, stage.name), blocks=blocks)


def _first_line(error):
    return str(error).strip().splitlines()[0]


def _twin_boundaries(eval_, train):
    """Map boundaries of the eval graph to the same ones of the train graph.

    They are the same where the same node lives on: its name and its submodule agree
    as long as the graphs do. Where they differ, ends of submodules tie them together.
    """
    same = len(eval_.nodes) == len(train.nodes) and all(
        (a.op, a.name, a.target) == (b.op, b.name, b.target)
        for a, b in zip(eval_.nodes, train.nodes, strict=True)
    )
    if same:
        return {i: i for i in eval_.live if i in train.live}
    twins = {-1: -1}
    for path, end in eval_.ends.items():
        if end in eval_.live and train.ends.get(path) in train.live:
            twins[end] = train.ends[path]
    return twins
