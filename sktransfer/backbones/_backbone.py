"""A pretrained network as an ordered sequence of stages."""

import copy
import numbers
from functools import cached_property

from sktransfer.backbones._boundaries import graphs_between, n_values
from sktransfer.backbones._layout import find_layout, no_tensor_text, unwrap
from sktransfer.backbones._probe import output_digests
from sktransfer.backbones._sections import (
    Section,
    describe_section,
    fingerprint_tensors,
)
from sktransfer.backbones._stages import FEATURES, INPUT, OUTPUT
from sktransfer.compute import own_torch_state
from sktransfer.utils import TensorDigests, join_key, near_matches, on_cpu

__all__ = ["Backbone"]


class Backbone:
    """A network, its stages, and the preprocessing that its weights expect.

    The whole network stays in one piece in ``module``; :meth:`split` cuts it after any
    stage or block into two modules that share its parameters. A
    :class:`StagedModule` declares where it can be cut. Of any other network these
    points are found on the traced graph (``torch.fx``), so they exist for every
    architecture whose forward pass can be traced; one that cannot is a single stage.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one argument: a tensor of shape ``(n, *preprocessing.input_shape)``, or
        whatever ``preprocessing.example(n)`` returns. It is not copied; layers that
        overwrite their input (``inplace=True``) are set not to where that changes no
        result, since they would overwrite activations at a boundary.
    preprocessing : ImagePreprocessing or VectorPreprocessing
        What turns a sample into the model input that the weights were trained on.
    name : str, default=None
        What to call it. By default the name of the module's class.
    provider : str, default=None
        Name of the provider, see :func:`list_providers`. None for a user's own module.
    weights : str, default=None
        What the weights are called. None for random weights.
    license : str, default=None
        License of the weights where the provider states one.
    classifier : sequence of str, default=None
        Paths of the network's own classifying layers. By default the last layers
        with weights if they are named as usual (``fc``, ``classifier``, ``head``, …).
        Everything from there on is not part of the stages.

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
        self._known_impurity = None
        self._forget()

    def _forget(self):
        """Reset what is computed once for given weights."""
        self._origin = None
        self._frozen_sections = {}
        self._descriptions = {}
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
        """The whole network, to be read only: that of a fork is not copied for it."""
        if self._module is None:
            origin, _ = self._origin
            return origin._weights
        return self._module

    @cached_property
    def _tensors(self):
        """Hashes of the weights, which are computed once."""
        return TensorDigests()

    @cached_property
    def _layout(self):
        found = find_layout(
            self.module,
            self.name,
            self.preprocessing,
            classifier=self.classifier,
            known_impurity=self._known_impurity,
        )
        self.module, self._known_impurity = found.module, found.impurity
        return found

    @property
    def _anatomy(self):
        return self._layout.anatomies[False]

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
    def impurity(self):
        """Why the output for a sample is no function of it (str); None if it is one.

        Where it is none, nothing may be stored, and samples go through one at a time.
        """
        return self._layout.impurity

    @property
    def network(self):
        """The network as it was given, which `module` holds if it cannot be cut."""
        return unwrap(self.module)

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
        """Return the name of the boundary after so many stages, or of this name (str).

        As in :meth:`split`; also ``"input"``, ``"features"`` (in front of the network's
        own classifier) and ``"output"``.
        """
        names = self.stage_names
        if isinstance(where, numbers.Integral) and not isinstance(where, bool):
            if -len(names) <= where <= len(names):
                k = int(where) if where >= 0 else len(names) + int(where)
                return names[k - 1] if k else INPUT
        elif isinstance(where, str) and where in self._anatomy.ends:
            return where
        near = near_matches(str(where), list(self.boundaries))
        raise ValueError(
            f"{self.name} has no boundary {where!r}. It must be one of {names}, a "
            f"block inside them (see `describe_backbone`), or an int in "
            f"[{-len(names)}, {len(names)}].{near}"
        )

    def _place(self, boundary):
        """Return the index of the last node before a boundary (int)."""
        end = self._anatomy.ends[boundary]
        return len(self._anatomy.trace.nodes) if end is None else end

    def n_stages_before(self, boundary):
        """Return how many whole stages lie before a boundary (int)."""
        end = self._place(boundary)
        return sum(self._place(name) <= end for name in self.stage_names)

    def in_order(self, names):
        """Return the distinct boundaries of names in order of execution (list)."""
        return sorted(dict.fromkeys(names), key=self._place)

    def section(self, start, stop):
        """Return the part of the network between two boundaries (Section)."""
        graphs = graphs_between(self._layout.anatomies, start, stop)
        return Section(self, start, stop, graphs)

    def frozen_section(self, start, stop):
        """Return a section in eval mode that is made once (Section)."""
        owner = self.owner(stop)
        if owner is not self:
            return owner.frozen_section(start, stop)
        if (start, stop) not in self._frozen_sections:
            section = self.section(start, stop).freeze()
            self._frozen_sections[start, stop] = section
        return self._frozen_sections[start, stop]

    def classifier_layers(self):
        """Return the paths of layers and tensors that only the classifier uses (list).

        It is what comes after the features, and is part of no stage.
        """
        stages = self.section(INPUT, FEATURES).state_dict().keys()
        tensors = self.section(FEATURES, OUTPUT).state_dict().keys() - stages
        return sorted({name.rpartition(".")[0] or name for name in tensors})

    def activation_shape(self, boundary):
        """Return the shape of one sample's activation at a boundary.

        Returns
        -------
        tuple of int, or dict of str to tuple of int
            A dict where the state is a group of tensors. Of lengths that differ from
            batch to batch, it is that of ``preprocessing.example``.

        Raises
        ------
        TypeError
            At the output of a network that returns something else than a tensor.
        """
        trace, end = self._anatomy.trace, self._anatomy.ends[boundary]
        if end is not None:
            return trace.shapes[trace.nodes.index(trace.live[end][0])]
        if not trace.returns_tensor:
            raise TypeError(no_tensor_text(self.name, trace))
        return trace.shapes[len(trace.nodes) - 1]

    def multiply_adds(self, start, stop):
        """Return the multiply-adds of one sample from one boundary to another (int)."""
        first, last = self._place(start), self._place(stop)
        counted = self._anatomy.trace.multiply_adds
        return sum(n for i, n in counted.items() if first < i <= last)

    @property
    def largest_activation_bytes(self):
        """Bytes of the largest state inside the network, of a sample in float32."""
        return 4 * max(map(n_values, self._anatomy.trace.shapes.values()))

    def fork(self, boundary):
        """Return a copy whose activations up to a boundary are known to be this one's.

        Whatever happens to the weights of the copy, frozen sections before the boundary
        and their fingerprints are those of this backbone. Its own must not change.
        """
        twin = self._with_module(None)
        twin._origin = (self, boundary)
        return twin

    def owner(self, boundary):
        """Return the backbone that the weights before a boundary came from (Backbone).

        This one, or the one that it was forked from at this boundary or a later one.
        """
        if self._origin is None:
            return self
        origin, last = self._origin
        is_shared = self._place(boundary) <= self._place(last)
        return origin.owner(boundary) if is_shared else self

    def _with_module(self, module):
        """Return a backbone of the same layout with other weights."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin.module = module
        twin._forget()
        return twin

    def __deepcopy__(self, memo):
        """Copy the network; what was found on its graph holds for the copy."""
        return self._with_module(copy.deepcopy(self.module, memo))

    def untraced(self):
        """Return a copy that is traced again, for another preprocessing (Backbone)."""
        twin = copy.deepcopy(self)
        vars(twin).pop("_layout", None)
        return twin

    def __getstate__(self):
        # Graphs hold compiled functions; tracing again is cheap and exact. What is on
        # a GPU could only be loaded where there is one.
        twin = self._with_module(on_cpu(self._weights))
        return {k: v for k, v in vars(twin).items() if k != "_layout"}

    def __repr__(self):
        return f"<Backbone {self.name}, {len(self.stages)} stages>"

    @property
    def fingerprint(self):
        """Text that changes with the architecture and with any weight."""
        section = self.section(INPUT, OUTPUT)
        return join_key(describe_section(section, self._weights), self._weights)

    def prefix_fingerprint(self, boundary):
        """Return a text that changes with anything that the prefix computes (str).

        It is that of a description of its code, its settings and its weights, and of
        what it makes of two model inputs. Weights above the boundary don't count, and
        those below must not change any more. Layers whose code comes from no library
        are described again each time, as a cell of a notebook may have been edited;
        and where that code cannot be described, the inputs are computed again.
        """
        owner = self.owner(boundary)
        description = owner.describe_prefix(boundary)
        if not description.is_complete:
            owner._digests = None
        key = join_key(description, owner._weights)
        return f"{key} {owner.probe_digest(boundary)}"

    def describe_prefix(self, boundary):
        """Describe what the prefix computes (Description).

        If the description is not complete, :meth:`prefix_fingerprint` is one of this
        object alone, and nothing that the prefix computes may be kept for longer than
        the process lives.
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

    @own_torch_state()
    def probe_digest(self, boundary):
        """Return a text of what the prefix makes of two model inputs (str).

        It is computed once, from a copy, in float32 on one thread of the CPU. So
        another process on this machine gets the same, and a prefix that computes
        something else gives another text, whatever its code and its weights say.
        """
        owner = self.owner(boundary)
        if owner is not self:
            return owner.probe_digest(boundary)
        if self._digests is None:
            trace, example = self._anatomy.trace, self.preprocessing.example(2)
            self._digests = output_digests(self.module, trace, example)
        return self._digests[self._anatomy.ends[boundary]]

    def weights_fingerprint(self, boundary):
        """Return a text that changes with any weight before a boundary (str).

        Unlike :meth:`prefix_fingerprint` it does not depend on the code, so that other
        versions of the libraries give the same.
        """
        section = self.owner(boundary).section(INPUT, boundary)
        return fingerprint_tensors(section.state_dict())
