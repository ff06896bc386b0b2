"""Time and memory of training from a boundary, measured on a few samples."""

import copy
import os
import time
from pathlib import Path
from typing import NamedTuple

import torch

from sktransfer.backbones import Backbone
from sktransfer.compute import n_samples, synchronise
from sktransfer.training import model_inputs, trains_in_bfloat16

_BATCH = 8
_TRAINING_BATCH = 32  # samples per training batch
_MEMORY_OF_LINUX = "/proc/meminfo"


class Cost(NamedTuple):
    """Cost of training from a boundary.

    Attributes
    ----------
    prefix_seconds : float
        Seconds per sample for a forward pass through the frozen stages.
    step_seconds : float
        Seconds per sample for a forward and a backward pass through the trained stages.
    memory : int
        Bytes of a training step of 32 samples, including weights, gradients and the
        state of the optimiser.
    stored : int
        Bytes of the activation of one sample at the boundary.
    """

    prefix_seconds: float
    step_seconds: float
    memory: int
    stored: int

    def seconds(self, n_samples: int, n_epochs: int) -> float:
        """Estimate the time of a fit in seconds."""
        return n_samples * (self.prefix_seconds + n_epochs * self.step_seconds)


def measure(
    backbone: Backbone, samples, boundaries: list[str], device: torch.device
) -> dict[str, Cost]:
    """Measure the cost of training from each boundary with a few samples."""
    few = samples.take(range(min(_BATCH, len(samples))))
    x = next(model_inputs(few, backbone.preprocessing, len(few), device))
    return {name: _measure(backbone, name, x, device) for name in boundaries}


def _measure(backbone, boundary, x, device):
    n, end = n_samples(x), backbone.stage_names[-1]
    prefix = backbone.section("input", boundary).to(device).eval()
    with torch.no_grad():
        z, seconds = _timed(lambda: prefix(x), device)
    stored = 4 * sum(part.numel() for part in _parts(z)) // n
    if boundary == end:
        return Cost(seconds / n, 0.0, n * stored, stored)
    suffix = copy.deepcopy(backbone.section(boundary, end)).to(device).eval()
    weights = [p.requires_grad_(True) for p in suffix.parameters()]
    how = suffix, _TRAINING_BATCH, device
    is_half = trains_in_bfloat16(backbone, boundary, end, *how)
    with torch.autocast(device.type, torch.bfloat16, enabled=is_half):
        held, step_seconds = _timed(lambda: _saved_tensors(suffix, z), device)
    known = {p.data_ptr() for p in weights}
    activations = sum(size for address, size in held.items() if address not in known)
    # Weights, gradients and the two moments of AdamW.
    trained = 4 * sum(p.numel() * p.element_size() for p in weights)
    memory = activations * _TRAINING_BATCH // n + trained
    return Cost(seconds / n, step_seconds / n, int(memory), stored)


def _parts(state):
    """Return the tensors of a state (list)."""
    return [*state.values()] if isinstance(state, dict) else [state]


def _saved_tensors(network, z):
    """Run a training step; return the sizes of tensors kept for it, by address."""
    held = {}

    def note(tensor):
        held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        sum(part.float().sum() for part in _parts(network(z))).backward()
    network.zero_grad()
    return held


def _timed(function, device):
    """Return a function's result, and the seconds of the faster of two runs."""
    times = []
    for _ in range(2):
        began = time.perf_counter()
        result = function()
        synchronise(device)
        times.append(time.perf_counter() - began)
    return result, min(times)


def free_memory(device: torch.device) -> int | None:
    """Return the free memory of a device in bytes; None if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:  # MemAvailable includes file caches, which the system frees on demand
        lines = Path(_MEMORY_OF_LINUX).read_text().splitlines()
        found = dict(line.split(":") for line in lines)["MemAvailable"]
        return int(found.split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not POSIX
        return None
