"""Run the frozen sections of a backbone, in a precision that is chosen by its error."""

import copy
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise
from typing import Any

import torch
from torch import fx, nn

from sktransfer.activations._batches import as_stored, to_rows
from sktransfer.activations._filled import filled, run_filled
from sktransfer.activations._fold import fold_batch_norm, halve
from sktransfer.activations._packed import pack_convolutions, stays_finite
from sktransfer.activations._targets import Pool, hidden_of
from sktransfer.backbones import Backbone, Section
from sktransfer.compute import (
    Runtime,
    attributes_restored,
    channels_first,
    channels_last,
    fixed_threads,
    join_states,
    map_state,
    n_samples,
    resolve_precision,
    seeded_everywhere,
    split_state,
    synchronise,
    use_channels_last,
)
from sktransfer.inputs import as_run

_logger = logging.getLogger("sktransfer")
_SEED = 0  # for each sample, if the network draws random numbers
_TOLERANCES = {"folded": 1e-3, "bfloat16": 0.05}
_N_IMAGES, _CELLS = 4, 12  # the images that precisions are tested on
_MOST_ERRORS = 256
_errors: dict[tuple, float] = {}


@dataclass(frozen=True)
class Computed:
    """Results of one batch."""

    wanted: list  # the rows of each tap
    passing: dict  # rows by boundary, of those on the way that may be stored
    compute_seconds: dict  # by boundary, from the start
    keep_seconds: dict  # by boundary, to make rows of the activations


class Engine:
    """Computes the sections of a pass on batches, in one thread.

    Batches begin at the boundary `start`. `steps` lists the sections in order, as pairs
    of boundaries. `taps` lists pairs of a boundary and a module, which is applied to
    the activations there; the results are ``Computed.wanted``.
    """

    def __init__(self, backbone, start, steps, taps, runtime):
        self._preprocessing = as_run(backbone.preprocessing)
        self._start = start
        self._steps = steps
        self._taps = taps
        self._runtime = runtime
        self._networks = [_prepare(backbone, *step, runtime) for step in steps]
        self._is_pure = backbone.impurity is None
        self._lay_out = partial(map_state, _layout_of(runtime.precision))
        # The time of the thread itself, without the time that it waits for others.
        on_cpu = runtime.device.type == "cpu"
        self._clock = time.thread_time if on_cpu else time.perf_counter

    def replica(self) -> "Engine":
        """Return an engine for another thread, with copies of the layers."""
        twin = copy.copy(self)
        twin._networks = [_replica(network) for network in self._networks]
        return twin

    def __call__(self, job: tuple) -> Computed:
        """Compute the sections, each from the rounded result of the previous one.

        A job is the batch at the start, a tensor of shape (n, ...) or a dict of such;
        the number of samples that it is filled up to; whether it may be computed as it
        is if it is one sample; and the set of boundaries that rows are made of. None
        makes rows at all boundaries and measures the time.
        """
        batch, size, is_lone, kept = job
        n, states, passing, seconds, kept_in = n_samples(batch), {}, {}, {}, {}
        fill = partial(filled, size=1 if is_lone or not self._is_pure else size)
        for boundary, z, seconds[boundary] in self._states(batch, size, fill, kept):
            states[boundary] = z
            if kept is None or boundary in kept:
                began = self._clock()
                passing[boundary] = self._rows(boundary, z, n)
                kept_in[boundary] = self._clock() - began
        wanted = [
            self._rows(b, self._run(tap, tap, states[b], size), n)
            for b, tap in self._taps
        ]
        return Computed(wanted, passing, seconds, kept_in)

    def _states(self, batch, size, fill, kept):
        """Yield each boundary, the batch there, and the seconds since the start."""
        runtime, seconds = self._runtime, 0.0
        z = map_state(lambda z: z.to(runtime.device, non_blocking=True), batch)
        yield self._start, fill(z), seconds
        began = self._clock()
        if self._start == "input":
            z = self._preprocessing.to_input(z)
        states = {self._start: self._lay_out(fill(z))}
        for (first, last), network in zip(self._steps, self._networks, strict=True):
            run = partial(_run, network, runtime=runtime, is_pure=self._is_pure)
            z = self._run(run, network, states[first], size)
            states[last] = self._lay_out(as_stored(z, runtime.activation_dtype))
            if kept is None:
                synchronise(runtime.device)
            seconds += self._clock() - began
            yield last, states[last], seconds
            began = self._clock()

    def _run(self, function, network, z, size):
        if not self._is_pure:
            return function(z)
        return run_filled(function, z, size, network, may_be_alone=True)

    def _rows(self, boundary, z, n):
        """Cut a batch into n rows; model inputs are not rounded."""
        dtype = "float32" if boundary == "input" else self._runtime.activation_dtype
        return to_rows(z, dtype, n)


def joined(parts: list[Computed]) -> Computed:
    """Join the results of the parts of a batch."""
    first, *_ = parts
    return Computed(
        [list(chain(*rows)) for rows in zip(*(p.wanted for p in parts), strict=True)],
        {b: list(chain(*(p.passing[b] for p in parts))) for b in first.passing},
        {b: sum(p.compute_seconds[b] for p in parts) for b in first.compute_seconds},
        {b: sum(p.keep_seconds[b] for p in parts) for b in first.keep_seconds},
    )


def _prepare(backbone, start, stop, runtime):
    """Return the network that computes a section; the backbone remembers it."""
    backbone, precision = backbone.owner(stop), runtime.precision
    packs = runtime.device.type == "cpu" and torch.backends.mkldnn.enabled
    key = (start, stop, runtime.device, precision, packs)
    if key not in backbone.prepared_sections:
        section = backbone.frozen_section(start, stop)
        if precision == "float32":
            graph = getattr(section, "graph", None)
            network = _replica(
                section if graph is None else fx.GraphModule(section, graph)
            )
        else:
            network = use_channels_last(fold_batch_norm(section))
        network = halve(network) if precision == "bfloat16" else network
        # Parameters that the section shares with the backbone stay on their device.
        network = _on_device(network, runtime.device).requires_grad_(False).eval()
        if packs and precision != "float32":
            is_finite = stays_finite(backbone.frozen_section("input", stop))
            network = pack_convolutions(network, may_clip=is_finite)
        backbone.prepared_sections[key] = network
    return backbone.prepared_sections[key]


def _on_device(network, device):
    """Return a network on a device; a copy if it has to be moved."""
    tensors = [*network.parameters(), *network.buffers()]
    if all(tensor.device == device for tensor in tensors):
        return network
    return copy.deepcopy(network).to(device)


def _replica(network):
    """Copy the layers of a network but none of its tensors."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


def _layout_of(precision):
    """Return the function that gives activations the memory layout of a precision.

    Layouts round differently, so all activations get the same one.
    """
    return channels_first if precision == "float32" else channels_last


def _run(network, z, runtime, is_pure=True):
    is_half = runtime.precision == "bfloat16"
    autocast = torch.autocast(runtime.device.type, torch.bfloat16, enabled=is_half)
    with torch.inference_mode(), autocast:
        return network(z) if is_pure else run_alone(network, z, network)


def run_alone(function: Callable, z: Any, network: nn.Module) -> Any:
    """Run a network whose output for one sample also depends on something else.

    Samples go through `function`, which is the network or a method of it, one at a
    time, each as if it were the first: one seed fixes the draws from the global
    generators for every sample. Afterwards these generators, and all buffers and
    attributes that a forward pass changes, are restored. `z` is a batch (n, ...) on the
    device of the network.
    """
    # The code of a section can change the network that the section is part of.
    parts = [m for m in network.modules() if isinstance(m, Section)]
    wholes = [m for part in parts for m in part.whole.modules()]
    modules = [*network.modules(), *wholes]
    results = []
    for row in split_state(z, 1):
        row = map_state(torch.clone, row)
        device = hidden_of(row).device
        with seeded_everywhere(_SEED, device), attributes_restored(modules):
            results.append(function(row))
    return join_states(results)


def choose_precision(backbone: Backbone, precision: str, device: torch.device) -> str:
    """Choose the precision of the frozen stages, "float32", "folded" or "bfloat16".

    With "auto", precisions are tested on generated images (see
    :func:`sktransfer.compute.resolve_precision`). "folded" is chosen if the activations
    of every stage change by at most 0.1% (relative L2 norm), and "bfloat16" if it is
    faster on the device and the spatial averages change by at most 5%. Samples other
    than images, and networks that process samples one at a time, use "float32". The
    backbone remembers the answer.
    """
    if not backbone.preprocessing.tolerates_low_precision or backbone.impurity:
        return "float32"
    resolved = resolve_precision(precision, device)
    if resolved == "float32":
        return resolved
    for tried in [resolved, "folded"]:
        error = _remembered_error(backbone, device, tried)
        if error <= _TOLERANCES[tried]:
            return tried
        _logger.info(
            "%s is not computed in precision %r, which changes its features by %.2g%%",
            backbone.name,
            tried,
            100 * error,
        )
    if error == float(
        "inf"
    ):  # the network computes NaN, which is told where it is used
        return "float32"
    warnings.warn(
        f"The frozen stages of {backbone.name} are computed as they are: folding "
        f"BatchNorm into convolutions would change their activations by "
        f"{100 * error:.2g}%. Set `precision='float32'` to skip this test.",
        stacklevel=2,
    )
    return "float32"


def _remembered_error(backbone, device, tried):
    """Return the error of a precision, measured once per set of equal networks."""
    known = backbone.precision_errors
    if (device, tried) not in known:
        last = backbone.stage_names[-1]
        key = backbone.prefix_fingerprint(last), backbone.preprocessing.key(), device
        if (*key, tried) not in _errors:
            while len(_errors) >= _MOST_ERRORS:
                _errors.pop(next(iter(_errors)), None)
            _errors[*key, tried] = _try(backbone, device, tried)
        known[device, tried] = _errors[*key, tried]
    return known[device, tried]


def _try(backbone, device, precision):
    try:
        return precision_error(backbone, device, precision)
    except torch.OutOfMemoryError:
        raise
    # Raised by layers that do not support bfloat16.
    except (RuntimeError, TypeError, ValueError):
        return float("inf")


def precision_error(backbone: Backbone, device: torch.device, precision: str) -> float:
    """Measure by how much a precision changes the activations of the worst stage.

    The result is the relative L2 norm of the difference of the activations or, in
    bfloat16, of their spatial averages; infinity if there is a NaN.
    """
    exact = Runtime(device=device, batch_size=_N_IMAGES, precision="float32")
    fast = replace(exact, precision=precision)
    z = z_fast = _images(backbone.preprocessing.input_shape).to(device)
    errors = []
    for start, stop in pairwise(["input", *backbone.stage_names]):
        z = run_section(backbone, start, stop, z, exact)
        z_fast = run_section(backbone, start, stop, z_fast, fast)
        pool = hidden_of
        if precision == "bfloat16":
            shape = backbone.activation_shape(stop)
            pool = Pool("avg", 1, shape, backbone.preprocessing.input_shape)
        seen, seen_fast = (pool(map_state(torch.Tensor.float, s)) for s in (z, z_fast))
        scale = seen.norm().clamp_min(torch.finfo(torch.float32).tiny)
        errors.append(float((seen - seen_fast).norm() / scale))
    return max(errors) if all(e == e for e in errors) else float("inf")


def run_section(
    backbone: Backbone, start: str, stop: str, z: Any, runtime: Runtime
) -> Any:
    """Compute the activations at a boundary from those at another, on their device."""
    network = _prepare(backbone, start, stop, runtime)
    with fixed_threads():
        z = map_state(_layout_of(runtime.precision), z)
        return _run(network, z, runtime)


def _images(shape):
    """Make images of random shapes, as smooth and as contrasted as photographs."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(_N_IMAGES, channels, _CELLS, _CELLS, generator=generator)
    return torch.nn.functional.interpolate(
        coarse, size=(height, width), mode="bicubic", align_corners=False
    )
