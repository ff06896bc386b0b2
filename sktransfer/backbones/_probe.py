"""What a network is tried on when it is traced, before anything relies on it."""

import copy
import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import torch

from sktransfer.backbones._anatomy import FEATURES, INPUT, OUTPUT, graphs_between
from sktransfer.backbones._outline import outline
from sktransfer.backbones._purity import (
    call,
    draw_inputs,
    find_impurity,
    is_near,
    run_on_first,
    run_once,
    tensors_in,
)
from sktransfer.backbones._sections import Section
from sktransfer.backbones._trace import boundary_values, replays_differ
from sktransfer.compute import fixed_threads
from sktransfer.utils import describe

__all__ = ["Findings", "output_digests", "probe"]

_N, _N_TRAIN = 5, 2  # no trace has seen a batch of five
_TOLERANCE = 1e-5  # of the largest value
_MOST = 256
_remembered: dict[tuple, "Findings"] = {}


@dataclass(frozen=True)
class Findings:
    """What a network was found to do.

    Attributes
    ----------
    difference : str or None
        How the sections differ from the module; None if they compute the same.
    impurity : str or None
        Why the output for a sample is no function of that sample; None if it is one.
    overwrites : bool
        Whether the module overwrites its input.
    """

    difference: str | None
    impurity: str | None
    overwrites: bool


def probe(module, anatomies, shape):
    """Try whether sections compute what the module does, and whether that is pure.

    The module is called as its user calls it, on copies, so that nothing of it moves.
    What was found out is remembered in this process: about a network of the libraries
    for others of its architecture, about any other for those that are equal to it.

    Parameters
    ----------
    module : torch.nn.Module
    anatomies : dict of bool to Anatomy
        Of the module in train mode (True) and eval mode (False).
    shape : tuple of int
        Of one model input.

    Returns
    -------
    Findings
    """
    key = outline(module) or _description(module), tuple(shape)
    if key[0] is None:
        return _probe(module, anatomies, shape)
    if key not in _remembered:
        while len(_remembered) >= _MOST:
            _remembered.pop(next(iter(_remembered), None), None)
        _remembered[key] = _probe(module, anatomies, shape)
    return _remembered[key]


def _description(module):
    """Describe a module with its weights (str), None where that is not possible."""
    found = describe(module)
    return found.digest if found.is_complete else None


def _probe(module, anatomies, shape):
    try:
        trial = run_once(module, _N, shape)
    except Exception as error:  # whatever a network raises
        reason = f"it cannot be run on {_N} samples at once ({_say(error)})"
        return Findings(None, reason, overwrites=False)
    impurity = find_impurity(module, trial)
    difference = _difference(module, anatomies, trial, impurity is None)
    return Findings(difference, impurity, trial.overwrites)


def output_digests(module, trace, shape):
    """Hash what a network makes of two random model inputs at every boundary.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed.
    trace : Trace
        Of the module in eval mode.
    shape : tuple of int
        Of one model input.

    Returns
    -------
    dict of (int or None) to str
        By the keys of ``trace.live``, and None for the output.
    """
    network = copy.deepcopy(module).cpu().eval()
    with fixed_threads():
        run = partial(boundary_values, trace, network)
        values = run_on_first(draw_inputs(2, shape), lambda x: call(run, x))
    return {end: _digest(tensors_in(value)) for end, value in values.items()}


def _digest(tensors):
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().contiguous().float().numpy()
        digest.update(f"{tensor.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()[:32]


def _difference(module, anatomies, trial, is_pure):
    """Say how the sections differ from the module; None if they don't."""

    def renewed(network):
        return network if is_pure else copy.deepcopy(module)

    try:
        network = copy.deepcopy(module).eval()
        joined = _join(network, anatomies, trial.x, training=False)
        if not is_near(joined, tensors_in(trial.output), _TOLERANCE):
            return _say_by_how_much("eval", joined, tensors_in(trial.output))
        if _replays_differ(anatomies[False].trace, network, trial.x):
            return "a value that is no tensor depends on more than the batch size"
        x = trial.x[:_N_TRAIN]
        whole = renewed(trial.network).train()
        expected = call(whole, x.clone(), with_gradients=True)
        joined = _join(renewed(network).train(), anatomies, x, training=True)
        if not is_near(joined, tensors_in(expected), _TOLERANCE):
            return _say_by_how_much("train", joined, tensors_in(expected))
    except Exception as error:  # whatever a network raises
        return _say(error)
    return None


def _replays_differ(trace, network, x):
    try:
        return replays_differ(trace, network, x[:1])
    except Exception:  # layers that need company
        return replays_differ(trace, network, x)


def _say_by_how_much(mode, joined, expected):
    if [t.shape for t in joined] != [t.shape for t in expected]:
        return f"in {mode} mode the shapes of the output differ"
    pairs = zip(joined, expected, strict=True)
    largest = max(_largest(a.detach() - b.detach()) for a, b in pairs)
    scale = max(map(_largest, expected))
    return (
        f"in {mode} mode the outputs differ by {largest:.2g}, where the largest value "
        f"is {scale:.2g}"
    )


def _largest(tensor):
    return float(tensor.detach().abs().nan_to_num().max())


def _join(network, anatomies, x, training):
    """Run the sections between stages one after the other (list of tensors)."""
    owner = SimpleNamespace(module=network)
    anatomy = anatomies[False]
    last = len(anatomy.trace.nodes)
    names = [INPUT, *(stage.name for stage in anatomy.stages), FEATURES, OUTPUT]
    place = {n: last if anatomy.ends[n] is None else anatomy.ends[n] for n in names}
    sections = [
        Section(owner, *ends, graphs_between(anatomies, *ends)).train(training)
        for ends in pairwise(sorted(names, key=place.__getitem__))
    ]

    def run(z):
        for section in sections:
            kept = z.clone()
            z, before = section(z), z
            if not torch.equal(before.nan_to_num(), kept.nan_to_num()):
                raise RuntimeError(f"what comes after {section.start!r} overwrites it")
        return z

    return tensors_in(call(run, x.clone(), with_gradients=training))


def _say(error):
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
