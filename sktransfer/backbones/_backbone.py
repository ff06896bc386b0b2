"""A pretrained network as an ordered sequence of stages."""

import copy
import math
import numbers
import operator
import warnings
from collections import OrderedDict
from functools import cached_property

import torch

from sktransfer.backbones._anatomy import (
    FEATURES,
    INPUT,
    OUTPUT,
    find_anatomies,
    graphs_between,
)
from sktransfer.backbones._fingerprint import (
    describe_section,
    fingerprint_tensors,
)
from sktransfer.backbones._probe import output_digests, probe
from sktransfer.backbones._purity import tensors_in
from sktransfer.backbones._sections import Section
from sktransfer.backbones._size import channels_error, check_patches
from sktransfer.backbones._trace import CONSTANT, TraceError, trace_network
from sktransfer.backbones._whole import Unpacked, Whole, first_line, place_of
from sktransfer.compute import own_torch_state, seeded
from sktransfer.utils import TensorDigests, join_key, near_matches, on_cpu, survey_class

__all__ = ["Backbone"]

_WAYS_OUT = {
    "image": "If it takes one image size only, pass that as `image_size`, or make a "
    "network for the size that you want.",
    "vector": "Its first layer must take rows of that many numbers in float32, which "
    "is as many as `n_features`, or X, says.",
}


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
    license : str, default=None
        License of the weights where the provider states one.
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
        license=None,
        classifier=None,
    ):
        self.module = module
        self.preprocessing = preprocessing
        self.name = type(module).__name__ if name is None else name
        self.provider = provider
        self.weights = weights
        self.license = license
        self.classifier = classifier
        self._impurity = None
        self._forget()

    def _forget(self):
        """Begin without what is made once for these weights."""
        self._origin = None
        self._frozen_sections = {}
        self._descriptions = {}
        self._code = None
        vars(self).pop("_tensors", None)
        self._digests = None
        self.prepared_sections = {}
        self.precision_errors = {}
        self.card = None

    @property
    def module(self):
        """The whole network; that of a fork is copied when it is first asked for."""
        if self._module is None:
            origin, _ = self._origin
            self._module = copy.deepcopy(origin.module)
        return self._module

    @module.setter
    def module(self, module):
        self._module = module

    @property
    def _weights(self):
        """The whole network, to look at: that of a fork is not copied for it."""
        if self._module is None:
            origin, _ = self._origin
            return origin._weights
        return self._module

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
    def network(self):
        """The network as it was given: `module`, or what is in it if not traceable."""
        inner = self.module
        while isinstance(inner, Whole | Unpacked):
            inner = inner.network
        return inner

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
        graphs = graphs_between(self._by_mode, start, stop)
        return Section(self, start, stop, graphs)

    def fork(self, boundary):
        """Return a copy whose activations up to a boundary are known to be this one's.

        Whatever happens to the weights of the copy, frozen sections before the boundary
        and their fingerprints are those of this backbone. Its own must not change.

        Parameters
        ----------
        boundary : str

        Returns
        -------
        Backbone
        """
        twin = self._with_module(None)
        twin._origin = (self, boundary)
        return twin

    def owner(self, boundary):
        """Return the backbone that the weights before a boundary came from (Backbone).

        This one, or the one that it was forked from at this boundary or a later one.

        Parameters
        ----------
        boundary : str
        """
        if self._origin is None:
            return self
        origin, last = self._origin
        return origin.owner(boundary) if self._is_before(boundary, last) else self

    def _is_before(self, boundary, last):
        """Whether a boundary is another one or comes before it."""
        return boundary == last or self.in_order([boundary, last])[0] == boundary

    def _with_module(self, module):
        """Return a backbone of the same anatomy with other weights."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin.module = module
        twin._forget()
        return twin

    def __deepcopy__(self, memo):
        """Copy the network; what was found on its graph holds for the copy."""
        return self._with_module(copy.deepcopy(self.module, memo))

    def untraced(self):
        """Return a copy that is traced anew, for another preprocessing (Backbone)."""
        twin = copy.deepcopy(self)
        vars(twin).pop("_by_mode", None)
        return twin

    def frozen_section(self, start, stop):
        """Return a section in eval mode that is made once (Section).

        Parameters
        ----------
        start, stop : str
            Names of boundaries.
        """
        owner = self.owner(stop)
        if owner is not self:
            return owner.frozen_section(start, stop)
        if (start, stop) not in self._frozen_sections:
            section = self.section(start, stop).freeze()
            self._frozen_sections[start, stop] = section
        return self._frozen_sections[start, stop]

    def prefix_fingerprint(self, boundary):
        """Return a text that changes with anything that the prefix computes (str).

        It is that of a description of its code, its settings and its weights, and of
        what it makes of two random model inputs. Weights above the boundary don't
        count, and those below must not change any more. Where layers call code that
        comes from no library, that is described anew each time, as a cell of a notebook
        may have been edited; and where that cannot be described, the inputs are
        computed anew.

        Parameters
        ----------
        boundary : str
        """
        owner = self.owner(boundary)
        description = owner.describe_prefix(boundary)
        if not description.is_complete:
            owner._digests = None
        key = join_key(description, owner._weights)
        return f"{key} {owner.probe_digest(boundary)}"

    def describe_prefix(self, boundary):
        """Describe what the prefix computes (Description).

        Where it is not complete, :meth:`prefix_fingerprint` is one of this object
        alone, and nothing that the prefix computes may be kept for longer than the
        process lives.

        Parameters
        ----------
        boundary : str
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

    def is_outdated(self):
        """Whether code of its layers was replaced since the last call.

        What was made of that code then, such as sections, is no longer the network's.
        Layers must be those of a library.

        Returns
        -------
        bool
        """
        kinds = dict.fromkeys(type(layer) for layer in self._weights.modules())
        found = [survey_class(kind) for kind in kinds]  # the same ones if all holds
        known, self._code = self._code, found
        return known is not None and any(map(operator.is_not, known, found))

    @cached_property
    def _tensors(self):
        """Hashes of the weights, which are computed once."""
        return TensorDigests()

    @own_torch_state()
    def probe_digest(self, boundary):
        """Return a text of what the prefix makes of two random model inputs (str).

        It is computed once, from a copy, in float32 on one thread of the CPU. So
        another process on this machine gets the same, and a prefix that computes
        something else another one, whatever its code and its weights say.

        Parameters
        ----------
        boundary : str
        """
        owner = self.owner(boundary)
        if owner is not self:
            return owner.probe_digest(boundary)
        if self._digests is None:
            shape, trace = self.preprocessing.input_shape, self._anatomy.trace
            self._digests = output_digests(self.module, trace, shape)
        return self._digests[self._anatomy.ends[boundary]]

    def weights_fingerprint(self, boundary):
        """Return a text that changes with any weight before a boundary (str).

        Unlike :meth:`prefix_fingerprint` it says nothing of the code, so that other
        versions of the libraries give the same.

        Parameters
        ----------
        boundary : str
        """
        section = self.owner(boundary).section(INPUT, boundary)
        return fingerprint_tensors(section.state_dict())

    def activation_shape(self, boundary):
        """Return the shape of one sample's activation at a boundary (tuple).

        Parameters
        ----------
        boundary : str

        Raises
        ------
        TypeError
            At the output of a network that returns something else than a tensor.
        """
        trace, end = self._anatomy.trace, self._anatomy.ends[boundary]
        if end is not None:
            return trace.shapes[trace.nodes.index(trace.live[end][0])]
        if not trace.returns_tensor:
            raise TypeError(self._no_tensor(trace))
        return trace.shapes[len(trace.nodes) - 1]

    def classifier_layers(self):
        """Return the paths of the layers and tensors that only the classifier uses.

        Returns
        -------
        list of str
            What comes after the features, and is part of no stage.
        """
        stages = self.section(INPUT, FEATURES).state_dict().keys()
        tensors = self.section(FEATURES, OUTPUT).state_dict().keys() - stages
        return sorted({name.rpartition(".")[0] or name for name in tensors})

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
        section = self.section(INPUT, OUTPUT)
        return join_key(describe_section(section, self._weights), self._weights)

    def _no_boundary(self, where):
        names = self.stage_names
        near = near_matches(str(where), list(self.boundaries))
        return (
            f"{self.name} has no boundary {where!r}. It must be one of {names}, a "
            f"block inside them (see `describe_backbone`), or an int in "
            f"[{-len(names)}, {len(names)}].{near}"
        )

    def _no_tensor(self, trace):
        value = trace.returned
        kind = type(value).__name__.removeprefix("immutable_")  # torch.fx's dict
        return (
            f"{self.name} returns a value of type {kind}, but a backbone must return "
            "one tensor. Wrap it in an nn.Module whose `forward` returns the tensor to "
            f"go on from, as in `return self.network(x){place_of(value)}`."
        )

    @property
    def impurity(self):
        """Why the output for a sample is no function of it (str); None if it is one.

        Where it is none, nothing may be stored, and samples go through one at a time.
        """
        self._by_mode  # noqa: B018
        return self._impurity

    @cached_property
    @own_torch_state()
    def _by_mode(self):
        """The anatomy in train and eval mode, with the same boundaries in both."""
        if isinstance(self.module, Whole):
            anatomies = self._trace_both(self.module)
        else:
            anatomies = self._trace()
        found = probe(self.module, anatomies, self.preprocessing.input_shape)
        if found.difference and not isinstance(self.module, Whole):
            anatomies = self._as_one_stage()
            self._warn(
                f"{self.name} is a single stage, as its parts do not compute together "
                f"what it does as a whole: {found.difference}. `freeze` can be 'all' "
                "or 'none'."
            )
        if found.overwrites and isinstance(self.module, Whole):
            for anatomy in anatomies.values():
                anatomy.trace.overwritten.add(anatomy.trace.nodes[0])
        if found.impurity and not self._impurity:
            self._warn(
                f"Samples go through {self.name} one at a time, and none of its "
                f"activations are stored: {found.impurity}."
            )
        self._impurity = found.impurity
        return anatomies

    def _warn(self, text):
        warnings.warn(text, stacklevel=4)

    def _trace(self):
        """Trace the network, or keep it whole where that cannot be done."""
        try:
            return self._trace_both(self.module)
        except TraceError as error:
            anatomies = self._as_one_stage()
            self._warn(
                f"{self.name} cannot be traced by torch.fx ({first_line(error)}), so "
                "it is a single stage: `freeze` can be 'all' or 'none'."
            )
            return anatomies

    def _as_one_stage(self):
        whole = Whole(OrderedDict(network=self.module))
        whole.training = self.module.training
        try:
            anatomies = self._trace_both(whole)
        except TraceError as error:
            if wrong := channels_error(self.name, error):
                raise wrong from error
            shape = ", ".join(map(str, self.preprocessing.input_shape))
            raise ValueError(
                f"{self.name} cannot be run on model inputs of shape (n, {shape}) "
                f"({first_line(error)}). "
                f"{_WAYS_OUT[self.preprocessing.kind]}"
            ) from error
        self.module = whole
        return anatomies

    def _trace_both(self, module):
        # Tensors that a forward method makes are left in the module by torch.fx.
        for name in [n for n in vars(module) if n.startswith(CONSTANT)]:
            delattr(module, name)
        traces = self._traces(module)
        returned = traces[False].returned
        if isinstance(module, Whole) and not isinstance(returned, torch.Tensor):
            if len(tensors_in(returned)) == 1:
                module.network = Unpacked(module.network)
                traces = self._traces(module)
        if self.preprocessing.kind == "image":
            check_patches(self.name, traces[False], module)
        anatomies = find_anatomies(traces, module, self.classifier)
        if not anatomies[False].stages:
            several = traces[traces[False].returns_tensor]
            raise TypeError(self._no_tensor(several))
        return anatomies

    def _traces(self, module):
        example = self.preprocessing.example(3)
        leaves = ("network",) if isinstance(module, Whole) else ()
        with seeded(0):  # other threads that need this network wait until it is done
            return {
                mode: trace_network(module, example, training=mode, leaves=leaves)
                for mode in (False, True)
            }

    @property
    def _anatomy(self):
        return self._by_mode[False]

    def __getstate__(self):
        # Graphs hold compiled functions; tracing again is cheap and exact. What is on
        # a GPU could only be loaded where there is one.
        twin = self._with_module(on_cpu(self._weights))
        return {k: v for k, v in vars(twin).items() if k != "_by_mode"}

    def __repr__(self):
        return f"<Backbone {self.name}, {len(self.stages)} stages>"
