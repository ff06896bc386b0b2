"""Networks of the library transformers in stages: embeddings, and each layer.

Such a network is not traced and not written again: what happens around its layers, such
as masks, positions and rotary embeddings, is left to its own ``forward``. A stage calls
that ``forward`` with a slot in the place of each layer. The slots pass hidden states on
until the layer of the stage, which runs, and stop when the next layer is reached.
"""

import copy
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import nn

from sktransfer.backbones._library import IS_TURNED, LibraryNetwork
from sktransfer.backbones._whole_transformer import (
    WholeTransformer,
    by_windows,
    check_states,
    error_text,
    state_of,
    states_of_texts,
)
from sktransfer.utils import warn_caller

EMBEDDINGS = "embeddings"
_PLAIN = (bool, int, float, str, type(None))
_run: ContextVar = ContextVar("run")


class _Reached(Exception):
    """The layer at which a run stops was called."""


class _Run:
    """A call of a network's ``forward`` that runs at most one of its layers.

    Calls of slots are counted from 0. The layer is called in the slot before ``stop``,
    on ``hidden``, and the slots before that return ``hidden``. A layer returns
    ``n_returned`` values, of which the hidden states come first, or with 0 these alone.
    """

    def __init__(self, stop, hidden=None, layer=None, n_returned=0):
        self.stop = stop
        self.hidden = hidden
        self.layer = layer
        self.n_returned = n_returned
        self.count = 0
        self.reached = None  # the input of the layer at which it stops

    def call(self, args, kwargs):
        at, self.count = self.count, self.count + 1
        given = args[0] if args else kwargs["hidden_states"]
        if at == self.stop:
            self.reached = given
            if not torch.compiler.is_exporting():  # which knows no exceptions
                raise _Reached
        if at >= self.stop:
            return self._as_returned(self.reached)
        hidden = _padded(self.hidden, given.shape[1])
        if at < self.stop - 1:
            return self._as_returned(hidden)
        if args:
            return self.layer(hidden, *args[1:], **kwargs)
        return self.layer(**{**kwargs, "hidden_states": hidden})

    def _as_returned(self, hidden):
        rest = [None] * (self.n_returned - 1)
        return (hidden, *rest) if self.n_returned else hidden


class _Slot(nn.Module):
    """Stands in the place of a layer, with the plain attributes that it has."""

    def __init__(self, layer):
        super().__init__()
        for name, value in vars(layer).items():
            if isinstance(value, _PLAIN) and not hasattr(self, name):
                setattr(self, name, value)

    def forward(self, *args, **kwargs):
        return _run.get().call(args, kwargs)


class _Given(nn.Module):
    """Stands in the place of embeddings, and returns the hidden states of the run.

    A network may ask for them where it has added padding, and for the padding alone.
    """

    def forward(self, *args, **kwargs):
        hidden = _run.get().hidden
        given = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)]
        shapes = [v for v in args if isinstance(v, torch.Size)]
        shapes += [v.shape for v in given if v.ndim in (2, 3)]
        length = max((s[1] for s in shapes if len(s) > 1), default=hidden.shape[1])
        if length < hidden.shape[1]:
            return hidden.new_zeros(len(hidden), length, hidden.shape[2])
        return _padded(hidden, length)


def _padded(hidden, length):
    """Return hidden states (n, t, c) with zeros up to a length, if it is larger."""
    return nn.functional.pad(hidden, (0, 0, 0, max(length - hidden.shape[1], 0)))


class Embeddings(nn.Module):
    """The first stage: from token ids to the hidden states before the first layer."""

    def __init__(self, frame, n_returned):
        super().__init__()
        self.frame = frame
        self.n_returned = n_returned

    def forward(self, inputs):
        """Return hidden states (n, t, c), zero at padding, and their mask."""
        return by_windows(self._embed, inputs)

    def _embed(self, inputs):
        given = {"input_ids": inputs["ids"], "attention_mask": inputs["mask"].long()}
        if "types" in inputs:
            given["token_type_ids"] = inputs["types"]
        run = _Run(0, n_returned=self.n_returned)
        return state_of(_hidden_after(self.frame, run, given), inputs["mask"])


class Layer(nn.Module):
    """A stage of one layer; the last one includes what comes after the layers."""

    def __init__(self, layer, frame, path, index, n_returned):
        super().__init__()
        self.layer = layer
        self.frame = frame
        self.path = path  # of the layer in the network
        self.index = index
        self.n_returned = n_returned

    def forward(self, state):
        """Return hidden states (n, t, c), zero at padding, and their mask."""
        return by_windows(self._run_layer, state)

    def _run_layer(self, state):
        hidden, mask = state["hidden"], state["mask"]
        run = _Run(self.index + 1, hidden, self.layer, self.n_returned)
        given = {"inputs_embeds": hidden, "attention_mask": mask.long()}
        return state_of(_hidden_after(self.frame, run, given), mask)


def _hidden_after(frame, run, given):
    """Return the hidden states where a run stops."""
    token = _run.set(run)
    try:
        output = frame(**given)[0]
    except _Reached:
        return run.reached
    else:
        return output if run.reached is None else run.reached
    finally:
        _run.reset(token)


class _Survey(NamedTuple):
    """What calls of a network's parts show.

    Attributes
    ----------
    container : str
        Path of the list of layers.
    called : list of torch.nn.Module
        Layers in the order of their calls; one that is shared occurs several times.
    n_returned : int
        Number of values that a layer returns, 0 for hidden states alone.
    before, after : set of str
        Paths of parts with weights that make embeddings, and of those that are called
        after the last layer.
    """

    container: str
    called: list
    n_returned: int
    before: set
    after: set


def staged_transformer(
    model: Any, inputs: Mapping, *, pooling: str = "avg", normalize: bool = False
) -> LibraryNetwork:
    """Return a network of transformers as a `StagedModule` that shares its parameters.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        An encoder or a decoder without a head. Its pooler is removed.
    inputs : dict of str to torch.Tensor
        Model inputs of at least two samples, to try it with.
    pooling, normalize : str and bool
        How the features are pooled by default, see `StagedModule`.

    Returns
    -------
    LibraryNetwork
        With a single stage, and a warning, if the network is no sequence of layers.

    Raises
    ------
    ValueError
        If it does not return hidden states of the inputs.
    """
    model = model.eval()
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    model.config.use_cache = False
    _share_relative_positions(model)
    _use_linear_layers(model)
    how = {"pooling": pooling, "normalize": normalize}
    expected = states_of_texts(model, inputs)
    try:
        staged = LibraryNetwork(_stages(model, _survey(model, inputs)), model, **how)
        check_states(model, staged.eval(), expected)
    except Exception as error:  # whatever other code raises in parts of a network
        warn_caller(
            f"{type(model).__name__} is a single stage, as it is no sequence of layers "
            f"({error_text(error)}). `freeze` can be 'all' or 'none'."
        )
        return _as_one_stage(model, expected, how)
    return staged


def _as_one_stage(model, expected, how):
    """Return a network with a single stage, which gets no padding if that matters."""
    try:
        stages = {"network": WholeTransformer(model)}
        check_states(model, whole := LibraryNetwork(stages, model, **how), expected)
    except ValueError:
        stages = {"network": WholeTransformer(model, alone=True)}
        return LibraryNetwork(stages, model, **how).eval()
    return whole.eval()


def _stages(model, survey):
    """Return the stages of a network by their names (dict)."""
    layers = model.get_submodule(survey.container)
    slots = {f"{survey.container}.{k}": _Slot(m) for k, m in layers.named_children()}
    no_end = slots | {path: nn.Identity() for path in survey.after}
    no_start = {path: _Given() for path in survey.before}
    frame = _with_parts(model, no_end | no_start)
    first = Embeddings(_with_parts(model, no_end), survey.n_returned)
    stages: dict[str, nn.Module] = {EMBEDDINGS: first}
    paths = {id(m): path for path, m in model.named_modules()}
    last = len(survey.called) - 1
    for i, layer in enumerate(survey.called):
        around = frame if i < last else _with_parts(model, slots | no_start)
        place = paths[id(layer)], i
        stages[f"layer{i}"] = Layer(layer, around, *place, survey.n_returned)
    return stages


def _with_parts(module, parts, path=""):
    """Return a shallow copy of a network in which some of its parts are replaced."""
    twin = copy.copy(module)
    for kind in ("_modules", "_parameters", "_buffers"):
        setattr(twin, kind, {**vars(module)[kind]})
    for name, child in module.named_children():
        place = f"{path}{name}"
        if place in parts:
            twin._modules[name] = parts[place]
        elif any(other.startswith(f"{place}.") for other in parts):
            twin._modules[name] = _with_parts(child, parts, f"{place}.")
    return twin


def _survey(model, inputs):
    """Run a network once, and note in which order its parts are called (_Survey)."""
    container = _path_of_layers(model)
    layers = {id(m): m for m in model.get_submodule(container).children()}
    parts = {id(m): path for path, m in _parts_beside(model, container)}
    called, shapes, before, after = [], [], set(), set()

    def note(module, args, output):
        if id(module) in layers:
            called.append(module)
            shapes.append(len(output) if isinstance(output, tuple) else 0)
            after.clear()
        elif called:
            after.add(parts[id(module)])
        elif _is_embedding(output, inputs["ids"].shape):
            before.add(parts[id(module)])

    places = {**layers, **{id(m): m for _, m in _parts_beside(model, container)}}
    hooks = [m.register_forward_hook(note) for m in places.values()]
    try:
        _call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    weighted = {path for path in parts.values() if _has_weights(model, path)}
    return _Survey(container, called, shapes[0], before & weighted, after & weighted)


def _path_of_layers(model):
    """Return the path of the outermost list of modules with the most weights."""
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    outer = [n for n in lists if not any(n.startswith(f"{o}.") for o in lists)]
    if not outer:
        raise ValueError(f"{type(model).__name__} has no list of layers.")
    return max(outer, key=lambda n: sum(p.numel() for p in lists[n].parameters()))


def _parts_beside(model, container):
    """List the paths and modules beside the list of layers and around it."""
    around = [container[:i] for i, char in enumerate(container) if char == "."]
    found = []
    for owner in ["", *around]:
        for name, module in model.get_submodule(owner).named_children():
            path = f"{owner}.{name}" if owner else name
            if path != container and path not in around:
                found.append((path, module))
    return found


def _has_weights(model, path):
    return next(model.get_submodule(path).parameters(), None) is not None


def _is_embedding(output, shape):
    """Return whether a part returns a vector per token, of each sample or of all."""
    n, length = shape
    if not isinstance(output, torch.Tensor) or output.ndim != 3:
        return False
    return output.shape[:-1] in ((n, length), (1, length))


@torch.no_grad()
def _call(model, inputs):
    given = {"input_ids": inputs["ids"], "attention_mask": inputs["mask"].long()}
    if "types" in inputs:
        given["token_type_ids"] = inputs["types"]
    return model(**given)[0]


def _share_relative_positions(model):
    """Let every layer of T5 compute the relative positions, which the first one passes.

    The table stays that of the first layer, and all layers share it.
    """
    attentions = [
        m for m in model.modules() if hasattr(m, "has_relative_attention_bias")
    ]
    tables = [m for m in attentions if m.has_relative_attention_bias]
    if len(tables) != 1:
        return
    for attention in attentions:
        attention.has_relative_attention_bias = True
        attention.relative_attention_bias = tables[0].relative_attention_bias


def _use_linear_layers(model):
    """Replace the Conv1D of GPT-2, which are linear layers that store W transposed.

    LoRA and all else that knows linear layers then applies to them.
    """
    from transformers.pytorch_utils import Conv1D

    for path, layer in [*model.named_modules()]:
        if not isinstance(layer, Conv1D):
            continue
        linear = nn.Linear(*layer.weight.shape, device="meta")
        linear.weight = nn.Parameter(layer.weight.data.T.contiguous())
        linear.bias = layer.bias
        setattr(linear, IS_TURNED, True)
        owner, _, name = path.rpartition(".")
        setattr(model.get_submodule(owner), name, linear)
