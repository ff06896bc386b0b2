"""Turns of worker processes on a GPU that they share."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock


@contextmanager
def turn_on(device: torch.device) -> Iterator[None]:
    """Wait until no other worker of this user trains on the same GPU, and train.

    Trainings hold much memory, also between their batches, so several at a time would
    exhaust it; passes through frozen stages do not, and take no turns. The turn ends
    with the process if that is killed. On the CPU, and in processes that are no
    workers, nobody waits.
    """
    is_worker = bool(getattr(multiprocessing.current_process(), "_identity", ()))
    if device.type != "cuda" or not is_worker:
        yield
        return
    with FileLock(_path_for(device)):
        try:
            yield
        finally:
            torch.cuda.empty_cache()  # what torch keeps, the next one could not have


def _path_for(device):
    """Return the file to lock, by the number that the GPU has in all processes."""
    gpu = torch.cuda.get_device_properties(device).uuid
    user = os.getuid() if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir(), f"sktransfer-{user}-{gpu}.lock")
