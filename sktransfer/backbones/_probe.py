"""Checks of a traced network: its sections are run and compared with the whole.

A graph does not record everything that a ``forward`` does. So the sections are compared
with the network, and its output for a sample must be a function of that sample. The
results are remembered for equal networks.
"""

import copy
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter
from types import BuiltinFunctionType, FunctionType, SimpleNamespace

import torch
from torch import nn

from sktransfer.backbones._boundaries import (
    evaluate,
    graphs_between,
    shape_of_sample,
    tensors_in,
)
from sktransfer.backbones._purity import (
    copy_state,
    draw_inputs,
    find_impurity,
    run_on_first,
    run_once,
)
from sktransfer.backbones._sections import Section
from sktransfer.backbones._stages import FEATURES, INPUT, OUTPUT
from sktransfer.backbones._tracer import run_graph
from sktransfer.compute import fixed_threads, is_near, map_state, seeded_call
from sktransfer.utils import NETWORK_LIBRARIES, describe, survey_class

_N_TRAIN = 2
_SEED, _FAINT, _SCALE = 2, 1e-3, 0.1  # of weights that hide what layers do
_TOLERANCE = 1e-5  # of the largest value
_MOST = 256
_PLAIN = (int, float, str, bool, torch.dtype, torch.device, torch.Size, type(None))
_TENSORS = ("_parameters", "_buffers")
_STRUCTURE = {*vars(nn.Module())} - {*_TENSORS}
_remembered: dict[tuple, "Findings"] = {}


@dataclass(frozen=True)
class Findings:
    """Results of the checks of a network.

    ``difference`` says how the sections differ from the whole, and ``impurity`` why the
    output is not a function of the sample alone; they are None if there is nothing to
    say. ``overwrites`` is whether the network overwrites its input.
    """

    difference: str | None
    impurity: str | None
    overwrites: bool


def probe(module, staged_graphs, example):
    """Check whether the sections compute the same as a module, and whether it is pure.

    The module is called on copies, with five model inputs like ``example``. The
    findings are remembered in this process: for modules of the libraries by their
    architecture, for others by all that they hold.
    """
    key = outline(module) or _description(module), repr(shape_of_sample(example))
    if key[0] is None:
        return _probe(module, staged_graphs, example)
    if key not in _remembered:
        if not all(map(_is_finite, [*module.parameters(), *module.buffers()])):
            return _probe(module, staged_graphs, example)
        while len(_remembered) >= _MOST:
            _remembered.pop(next(iter(_remembered), None), None)
        _remembered[key] = _probe(module, staged_graphs, example)
    return _remembered[key]


def _description(module) -> str | None:
    """Return a hash of a module and its weights, None if it cannot be described."""
    found = describe(module)
    return found.digest if found.is_complete else None


def _probe(module, staged_graphs, example):
    try:
        module, trial = _trial(module, example)
    except Exception as error:  # whatever a network raises
        reason = f"it cannot be run on 5 samples at once ({_error_text(error)})"
        return Findings(None, reason, overwrites=False)
    impurity = find_impurity(module, trial)
    difference = _difference(module, staged_graphs, trial, impurity is None)
    return Findings(difference, impurity, trial.overwrites)


def _trial(module, example):
    """Return a trial, and the network that it is of: a copy if weights hide something.

    Weights that are zero, as those of a last norm in a residual block, nearly zero or
    not finite leave nothing of what comes before, until they are trained or replaced.
    In the copy they are random numbers, unless it does not run with these.
    """
    faint = [name for name, p in module.named_parameters() if _is_faint(p)]
    if faint:
        twin = _with_random(module, faint)
        with suppress(Exception):  # whatever a network raises
            trial = run_once(twin, example)
            if all(map(_is_finite, tensors_in(trial.output))):
                return twin, trial
    return module, run_once(module, example)


@torch.no_grad()
def _with_random(module, names):
    """Return a copy of a module with random numbers in some parameters."""
    twin, generator = copy.deepcopy(module), torch.Generator().manual_seed(_SEED)
    for name in names:
        weight = twin.get_parameter(name)
        weight.copy_(_SCALE * torch.randn(weight.shape, generator=generator))
    return twin


def _is_faint(weight):
    if not weight.is_floating_point() or not weight.numel():
        return False
    weight = weight.detach()
    return not _is_finite(weight) or float(weight.abs().max()) < _FAINT


def _is_finite(tensor):
    return bool(tensor.isfinite().all())


def output_digests(module, trace, example) -> dict[int | None, str]:
    """Hash the values of a network at each boundary for two model inputs.

    The keys are those of ``trace.live``, and None for the output.
    """
    network = copy.deepcopy(module).cpu().eval()
    with fixed_threads():
        run = partial(_boundary_values, trace, network)
        values = run_on_first(draw_inputs(example), lambda x: seeded_call(run, x))
    return {end: _digest(tensors_in(value)) for end, value in values.items()}


def _boundary_values(trace, module, x):
    """Run a network; return the live values at each boundary, and the output."""
    values = run_graph(module, trace.nodes[0].graph, x).values
    found = {end: values[node] for end, (node, _) in trace.live.items()}
    return found | {None: values[trace.nodes[-1]]}


def _digest(tensors):
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().contiguous().float().numpy()
        digest.update(f"{tensor.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()[:32]


def _difference(module, staged_graphs, trial, is_pure):
    """Say how the sections differ from the module; None if they do not."""

    def intact(network):
        return network if is_pure else copy.deepcopy(module)

    try:
        network = copy.deepcopy(module).eval()
        joined = _join(network, staged_graphs, trial.x, training=False)
        if not is_near(joined, tensors_in(trial.output), _TOLERANCE):
            return _describe_difference("eval", joined, tensors_in(trial.output))
        if _replays_differ(staged_graphs[False].trace, network, trial.x):
            return "a value that is no tensor depends on more than the batch size"
        x = map_state(itemgetter(slice(_N_TRAIN)), trial.x)
        whole = intact(trial.network).train()
        expected = seeded_call(whole, copy_state(x), with_gradients=True)
        joined = _join(intact(network).train(), staged_graphs, x, training=True)
        if not is_near(joined, tensors_in(expected), _TOLERANCE):
            return _describe_difference("train", joined, tensors_in(expected))
    except Exception as error:  # whatever a network raises
        return _error_text(error)
    return None


def _replays_differ(trace, network, x):
    """Return whether a static value at a boundary differs from that of the network."""
    try:
        values = run_graph(
            network, trace.nodes[0].graph, map_state(itemgetter(slice(1)), x)
        ).values
    except Exception:  # layers that need several samples
        values = run_graph(network, trace.nodes[0].graph, x).values
    return any(
        evaluate(expression, values[node]) != _plain(values[n])
        for node, static in trace.live.values()
        for n, expression in static.items()
    )


def _plain(value):
    return tuple(map(_plain, value)) if isinstance(value, tuple | list) else value


def _describe_difference(mode, joined, expected):
    if [t.shape for t in joined] != [t.shape for t in expected]:
        return f"in {mode} mode the shapes of the output differ"
    pairs = zip(joined, expected, strict=True)
    largest = max(_largest(a.detach().double() - b.detach().double()) for a, b in pairs)
    scale = max(map(_largest, expected))
    return (
        f"in {mode} mode the outputs differ by {largest:.2g}, where the largest value "
        f"is {scale:.2g}"
    )


def _largest(tensor):
    return float(tensor.detach().double().abs().nan_to_num().max())


def _join(network, staged_graphs, x, training):
    """Run the sections between stages one after the other; list the output tensors."""
    owner = SimpleNamespace(module=network)
    staged = staged_graphs[False]
    last = len(staged.trace.nodes)
    names = [INPUT, *(stage.name for stage in staged.stages), FEATURES, OUTPUT]
    place = {n: last if staged.ends[n] is None else staged.ends[n] for n in names}
    sections = [
        Section(owner, *ends, graphs_between(staged_graphs, *ends)).train(training)
        for ends in pairwise(sorted(names, key=place.__getitem__))
    ]

    def run(z):
        for section in sections:
            kept = copy_state(z)
            z, before = section(z), z
            if not is_near(tensors_in(before), tensors_in(kept), 0):
                raise RuntimeError(f"what comes after {section.start!r} overwrites it")
        return z

    return tensors_in(seeded_call(run, copy_state(x), with_gradients=training))


def _error_text(error):
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def outline(module: nn.Module) -> str | None:
    """Hash the layers of a network, their settings and the shapes of their tensors.

    Networks with the same outline differ in their weights only. None for a network with
    code that is not of a library, such as that of a layer, a hook or a replaced method.
    """
    try:
        parts = [
            (path, _describe_layer(layer))
            for path, layer in module.named_modules(remove_duplicate=False)
        ]
    except _UnknownError:
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


class _UnknownError(Exception):
    """A layer has code that belongs to no library, or may have."""


def _describe_layer(layer):
    own = vars(layer)
    hooks = any(own[name] for name in own if name.endswith("_hooks"))
    replaced = any(callable(getattr(type(layer), name, None)) for name in own)
    if hooks or replaced or survey_class(type(layer)).foreign:
        raise _UnknownError
    settings = {k: v for k, v in sorted(own.items()) if k not in _STRUCTURE}
    return _name(type(layer)), _describe(settings)


def _describe(value):
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)} {type(value).__name__}"
    if isinstance(value, dict):
        return [(str(key), _describe(part)) for key, part in value.items()]
    if isinstance(value, list | tuple | set):
        return [type(value).__name__, *map(_describe, value)]
    if isinstance(value, partial):
        return _describe([value.func, value.args, value.keywords])
    if isinstance(value, nn.Module):  # described by itself, if it is a submodule
        raise _UnknownError
    if isinstance(value, FunctionType | BuiltinFunctionType | type):
        return _name(value)
    raise _UnknownError


def _name(thing):
    """Return the full name of a library's class or function."""
    home = thing.__module__ or ""
    if home.partition(".")[0] not in NETWORK_LIBRARIES or "<" in thing.__qualname__:
        raise _UnknownError
    return f"{home}.{thing.__qualname__}"
