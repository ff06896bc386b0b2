"""What a strategy takes: a forward and a backward pass, measured on a few samples."""

import copy
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sktransfer.compute import synchronise
from sktransfer.inputs import iter_batches

__all__ = ["Cost", "free_memory", "measure"]

_BATCH = 8
_TRAINED_AT_ONCE = 32  # samples in a batch of the estimators
_MEMORY_OF_LINUX = "/proc/meminfo"


class Cost(NamedTuple):
    """What it takes to train from a boundary.

    Attributes
    ----------
    prefix_seconds : float
        Of one sample through what is frozen.
    step_seconds : float
        Of one sample forwards and backwards through what is trained.
    memory : int
        Bytes that a batch of 32 samples holds in a step, with weights, gradients and
        the optimiser's state.
    stored : int
        Bytes of one sample's activation at the boundary.
    """

    prefix_seconds: float
    step_seconds: float
    memory: int
    stored: int

    def seconds(self, n_samples, n_epochs):
        """Estimate the time of a fit.

        Parameters
        ----------
        n_samples, n_epochs : int

        Returns
        -------
        float
        """
        return n_samples * (self.prefix_seconds + n_epochs * self.step_seconds)


def measure(reader, boundaries):
    """Measure forward and backward passes of a few samples.

    Parameters
    ----------
    reader : StageReader
        That has read X.
    boundaries : list of str
        That it is trained from; at the end of the last stage nothing is.

    Returns
    -------
    dict of str to Cost
    """
    backbone, device = reader.backbone_, reader.device_
    rows = np.arange(min(_BATCH, len(reader.samples_)))
    (batch,) = iter_batches(
        reader.samples_.take(rows), backbone.preprocessing, len(rows)
    )
    x = backbone.preprocessing.to_input(batch.to(device))
    end = backbone.stage_names[-1]
    return {name: _measure(backbone, name, end, x, device) for name in boundaries}


def _measure(backbone, boundary, end, x, device):
    n = len(x)
    prefix = backbone.section("input", boundary).to(device).eval()
    with torch.no_grad():
        z, seconds = _timed(lambda: prefix(x), device)
    stored = z[0].numel() * 4
    if boundary == end:
        return Cost(seconds / n, 0.0, n * stored, stored)
    suffix = copy.deepcopy(backbone.section(boundary, end)).to(device).eval()
    weights = [p.requires_grad_(True) for p in suffix.parameters()]
    held = {}

    def note(tensor):
        held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    def step():
        held.clear()  # one run's, not those of all
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            suffix(z).float().sum().backward()
        suffix.zero_grad()

    _, step_seconds = _timed(step, device)
    known = {p.data_ptr() for p in weights}
    activations = sum(size for place, size in held.items() if place not in known)
    # Weights, gradients, and two moments of AdamW.
    trained = 4 * sum(p.numel() * p.element_size() for p in weights)
    memory = activations * _TRAINED_AT_ONCE // n + trained
    return Cost(seconds / n, step_seconds / n, int(memory), stored)


def _timed(function, device):
    """Return what a function gives, and the seconds of its faster of two runs."""
    times = []
    for _ in range(2):
        began = time.perf_counter()
        result = function()
        synchronise(device)
        times.append(time.perf_counter() - began)
    return result, min(times)


def free_memory(device):
    """Return the bytes that a device has free (int), None where nobody says.

    Parameters
    ----------
    device : torch.device
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:  # with what the system keeps of files and gives back when asked
        lines = Path(_MEMORY_OF_LINUX).read_text().splitlines()
        found = dict(line.split(":") for line in lines)["MemAvailable"]
        return int(found.split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # no Linux
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no POSIX system
        return None
