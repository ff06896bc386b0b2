"""Random streams for code that draws from the global random generators."""

import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

from sktransfer.compute._process import fork_lock
from sktransfer.utils import library_lock

_DEVICES = {"cuda": torch.cuda, "mps": torch.mps}
_WAIT = 0.01, 0.25  # seconds, at least and at most, for other threads to draw
# Runs in all of which a generator must move until it counts as drawn from: those of an
# event loop or a progress bar may coincide with a draw of another thread.
DRAW_TRIES = 5
_lock = fork_lock(globals(), "_lock")


class RandomStream:
    """Separate random stream for code that draws from torch's global generators.

    Layers such as dropout draw from the generators of the whole process, so fits in
    several threads would take numbers from each other's sequences. Inside
    :meth:`active` the global generators have the states of this stream. Other threads
    that enter a stream wait meanwhile, and afterwards the user's own sequence continues
    as if nothing had been drawn.

    Parameters
    ----------
    seed : int
        Seed of the stream.
    device : torch.device or str, default="cpu"
        Device on which numbers are drawn, in addition to the CPU.

    Attributes
    ----------
    states : dict of str to torch.Tensor
        States of the generators by "cpu", "cuda" and "mps", from which the stream
        continues.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        device = torch.device(device)
        self._device = device if device.type in _DEVICES else None
        devices = [torch.device("cpu"), *filter(None, [self._device])]
        self.states = {
            d.type: torch.Generator(d).manual_seed(seed).get_state() for d in devices
        }

    @contextmanager
    def active(self) -> Iterator[None]:
        """Draw from this stream inside a `with` block.

        Other threads that enter a stream wait, so the block must not wait for them.
        """
        with _lock:
            others = self._get()
            self._set(self.states)
            try:
                yield
            finally:
                self.states = self._get()
                self._set(others)

    def _get(self):
        states = {"cpu": torch.get_rng_state()}
        if self._device is not None:
            kind = self._device.type
            where = (self._device,) if kind == "cuda" else ()
            states[kind] = _DEVICES[kind].get_rng_state(*where)
        return states

    def _set(self, states):
        torch.set_rng_state(states["cpu"])
        if self._device is not None:
            kind = self._device.type
            where = (self._device,) if kind == "cuda" else ()
            _DEVICES[kind].set_rng_state(states[kind], *where)


def seeded(seed: int) -> AbstractContextManager[None]:
    """Return a context in which a seed determines what torch draws on the CPU.

    Other threads that enter a stream wait, see :class:`RandomStream`.
    """
    return RandomStream(seed).active()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no other thread enter a stream, trace or describe inside a `with` block.

    Who needs both locks takes that of streams first, as two orders would deadlock. So
    nothing that is traced or described may enter a stream.
    """
    with _lock, library_lock:
        yield


@contextmanager
def seeded_everywhere(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch, NumPy and Python's `random` inside a `with` block.

    It is for the user's code, which may draw from any of these. Afterwards their states
    are restored. Other threads that enter a stream wait, see :class:`RandomStream`.
    """
    with RandomStream(seed, device).active():
        kept = np.random.get_state(), random.getstate()  # noqa: NPY002
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(kept[0])  # noqa: NPY002
            random.setstate(kept[1])


def generator_states() -> dict[str, Any]:
    """Return the states of the global generators on the CPU, by library.

    If a library's state has changed between two calls, numbers were drawn from it.
    """
    numpy: Any = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": (numpy[1].tobytes(), *numpy[2:]),
        "random": random.getstate(),
    }


def drawn_since(before: dict[str, Any], seconds: float) -> tuple[list[str], list[str]]:
    """Return the libraries whose global generators this thread has drawn from.

    `before` is an earlier result of :func:`generator_states`, and `seconds` the time
    since. As threads share these generators, one whose state has changed is observed
    for a while, to see whether other threads draw from it. The libraries from which
    they do are returned second: whether this thread drew from them is not known. A
    thread that draws now and then is not noticed by this, so what is found should be
    found again in each of `DRAW_TRIES` runs.
    """
    now = generator_states()
    moved = [name for name in before if before[name] != now[name]]
    if not moved:
        return [], []
    least, most = _WAIT
    time.sleep(min(max(least, seconds), most))
    later = generator_states()
    others = [name for name in moved if now[name] != later[name]]
    return [name for name in moved if name not in others], others
