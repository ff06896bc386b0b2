"""Run the sections of a backbone, frozen, as fast as their results allow."""

import copy
import time
from dataclasses import dataclass
from itertools import chain

import torch
from torch import fx

from sktransfer.activations._alone import run_alone
from sktransfer.activations._fold import fold_batch_norm
from sktransfer.activations._halve import halve
from sktransfer.activations._rows import as_stored, to_rows
from sktransfer.compute import (
    channels_last,
    channels_second,
    fixed_threads,
    pad_rows,
    synchronise,
    use_channels_last,
)

__all__ = ["Computed", "Engine", "joined", "lay_out", "run_section"]


def run_section(backbone, start, stop, z, runtime):
    """Compute the activations at one boundary from those at another.

    Parameters
    ----------
    backbone : Backbone
    start, stop : str
        Names of boundaries.
    z : torch.Tensor of shape (n, ...)
        Activations at ``start``, on the device.
    runtime : Runtime

    Returns
    -------
    torch.Tensor of shape (n, ...)
    """
    network = _prepare(backbone, start, stop, runtime)
    with fixed_threads():
        return _run(network, lay_out(z, runtime.precision), runtime)


@dataclass(frozen=True)
class Computed:
    """What became of a batch.

    Attributes
    ----------
    wanted : list of list of ndarray
        For each tap, the row of each sample.
    passing : dict of str to list of ndarray
        The rows of the activations at boundaries on the way that are to be kept.
    compute_seconds, keep_seconds : dict of str to float
        By boundary, until the activation was there, and to make rows of it.
    """

    wanted: list
    passing: dict
    compute_seconds: dict
    keep_seconds: dict


class Engine:
    """Computes the steps of a pass on a batch, in one thread.

    Parameters
    ----------
    backbone : Backbone
    start : str
        The boundary that samples come from.
    steps : list of (str, str)
        Names of the boundaries that each section lies between, in order of execution.
    taps : list of (str, torch.nn.Module)
        Boundaries, and what is wanted of the activations there.
    runtime : Runtime

    Attributes
    ----------
    size : int
        Samples that batches are filled up to.
    kept : set of str or None
        Boundaries of which rows are made; None makes those of all and takes the time.
    """

    def __init__(self, backbone, start, steps, taps, runtime):
        self.size = runtime.batch_size
        self.kept = set()
        self._preprocessing = backbone.preprocessing
        self._start = start
        self._steps = steps
        self._taps = taps
        self._runtime = runtime
        self._networks = [_prepare(backbone, *step, runtime) for step in steps]
        self._is_pure = backbone.impurity is None
        # A thread's own time, where it computes alone: others may keep it waiting.
        on_cpu = runtime.device.type == "cpu"
        self._clock = time.thread_time if on_cpu else time.perf_counter

    def replica(self):
        """Return an engine for another thread: its layers are its own (Engine)."""
        twin = copy.copy(self)
        twin._networks = [_replica(network) for network in self._networks]
        return twin

    def __call__(self, batch):
        """Compute the steps, each from what the ones before it gave, rounded.

        Parameters
        ----------
        batch : torch.Tensor of shape (n, ...)
            At the start, with n up to `size`.

        Returns
        -------
        Computed
        """
        n, seconds, kept_in = len(batch), {}, {}
        states, passing = {}, {}
        for boundary, z, seconds[boundary] in self._states(batch):
            states[boundary] = z
            if self.kept is None or boundary in self.kept:
                began = self._clock()
                passing[boundary] = self._rows(boundary, z[:n])
                kept_in[boundary] = self._clock() - began
        wanted = [self._rows(b, tap(states[b])[:n]) for b, tap in self._taps]
        return Computed(wanted, passing, seconds, kept_in)

    def _states(self, batch):
        """Yield boundaries, the batch there, and the seconds since the start."""
        runtime, states, seconds = self._runtime, {}, 0.0
        z = batch.to(runtime.device, non_blocking=True)
        yield self._start, self._fill(z), seconds
        began = self._clock()
        if self._start == "input":
            z = self._preprocessing.to_input(z)
        states[self._start] = lay_out(self._fill(z), runtime.precision)
        for (first, last), network in zip(self._steps, self._networks, strict=True):
            z = states[first]
            z = _run(network, z, runtime, self._is_pure)
            z = as_stored(z, runtime.activation_dtype)
            states[last] = lay_out(z, runtime.precision)
            if self.kept is None:
                synchronise(runtime.device)
            seconds += self._clock() - began
            yield last, states[last], seconds
            began = self._clock()

    def _fill(self, z):
        """Fill a batch up with zeros, as networks were tried with."""
        return pad_rows(z, self.size) if self._is_pure else z

    def _rows(self, boundary, z):
        """Cut a batch into rows; model inputs are kept as they are."""
        dtype = "float32" if boundary == "input" else self._runtime.activation_dtype
        return to_rows(z, dtype)


def joined(parts):
    """Join what became of the parts of a batch (Computed).

    Parameters
    ----------
    parts : list of Computed
    """
    first, *_ = parts
    return Computed(
        [list(chain(*rows)) for rows in zip(*(p.wanted for p in parts), strict=True)],
        {b: list(chain(*(p.passing[b] for p in parts))) for b in first.passing},
        {b: sum(p.compute_seconds[b] for p in parts) for b in first.compute_seconds},
        {b: sum(p.keep_seconds[b] for p in parts) for b in first.keep_seconds},
    )


def _run(network, z, runtime, is_pure=True):
    is_half = runtime.precision == "bfloat16"
    autocast = torch.autocast(runtime.device.type, torch.bfloat16, enabled=is_half)
    with torch.inference_mode(), autocast:
        return network(z) if is_pure else run_alone(network, z, network)


def lay_out(z, precision):
    """Give maps one layout, wherever they come from: others round differently.

    Parameters
    ----------
    z : torch.Tensor of shape (n, ...)
    precision : {"float32", "folded", "bfloat16"}
        See :func:`sktransfer.compute.resolve_precision`.

    Returns
    -------
    torch.Tensor of the same values
    """
    return channels_second(z) if precision == "float32" else channels_last(z)


def _prepare(backbone, start, stop, runtime):
    """Return the section as it runs; the backbone remembers it."""
    backbone, precision = backbone.owner(stop), runtime.precision
    section = backbone.frozen_section(start, stop)
    key = (start, stop, runtime.device, precision)
    if key not in backbone.prepared_sections:
        if precision == "float32":
            network = _replica(fx.GraphModule(section, section.graph))
        else:
            network = use_channels_last(fold_batch_norm(section))
        network = halve(network) if precision == "bfloat16" else network
        # What the section shares with the backbone must stay on its device.
        network = _on_device(network, runtime.device).requires_grad_(False).eval()
        backbone.prepared_sections[key] = network
    return backbone.prepared_sections[key]


def _on_device(network, device):
    """Return a network on a device; a copy if it has to be moved."""
    tensors = [*network.parameters(), *network.buffers()]
    if all(tensor.device == device for tensor in tensors):
        return network
    return copy.deepcopy(network).to(device)


def _replica(network):
    """Copy the layers of a network, and none of its tensors."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
