"""Random draws of one's own from generators, which all threads share."""

import random
import threading
import time
from contextlib import contextmanager

import numpy as np
import torch

from sktransfer.compute._fork import in_forked_child

__all__ = ["Draws", "drawn_since", "generator_states", "seeded", "seeded_everywhere"]

_DEVICES = {"cuda": torch.cuda, "mps": torch.mps}
_WAIT = 0.01, 0.25  # seconds, at least and at most, for other threads to draw
_lock = threading.RLock()


def _renew():
    global _lock
    _lock = threading.RLock()


in_forked_child(_renew)


class Draws:
    """States of torch's generators for one purpose, put in where it draws.

    Layers such as dropout draw from the generators of the whole process, whose states
    they cannot be told apart in: fits in several threads would take each other's
    numbers. While one of them draws, the others wait for their turn, and the user's
    own sequence goes on afterwards as if nothing had been drawn.

    Parameters
    ----------
    seed : int
    device : torch.device or str, default="cpu"
        Where draws are made besides the CPU.

    Attributes
    ----------
    states : dict of str to torch.Tensor
        States by "cpu", "cuda" and "mps", to go on from another time.
    """

    def __init__(self, seed, device="cpu"):
        device = torch.device(device)
        self._device = device if device.type in _DEVICES else None
        devices = [torch.device("cpu"), *filter(None, [self._device])]
        self.states = {
            d.type: torch.Generator(d).manual_seed(seed).get_state() for d in devices
        }

    @contextmanager
    def put_in(self):
        """Let all that draws in a `with` block draw from these states.

        Other threads wait, so nothing in the block may wait for one that draws.
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


def seeded(seed):
    """Return a context in which torch's draws on the CPU are fixed by a seed.

    It is this thread's alone: others that draw wait, as for :class:`Draws`.

    Parameters
    ----------
    seed : int

    Returns
    -------
    context manager
    """
    return Draws(seed).put_in()


@contextmanager
def seeded_everywhere(seed, device="cpu"):
    """Fix the draws of torch, NumPy and Python's `random`, and put all back at the end.

    It is for code of others, which may draw from any of these. Other threads that draw
    from torch wait, as for :class:`Draws`.

    Parameters
    ----------
    seed : int
    device : torch.device or str, default="cpu"
        Where draws are made besides the CPU.
    """
    with Draws(seed, device).put_in():
        kept = np.random.get_state(), random.getstate()  # noqa: NPY002
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(kept[0])  # noqa: NPY002
            random.setstate(kept[1])


def generator_states():
    """Return the states of the global generators on the CPU.

    Returns
    -------
    dict of str to object
        By the name of the library. A state differs from an earlier one if the library
        has been drawn from in between.
    """
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": (keys.tobytes(), *rest),
        "random": random.getstate(),
    }


def drawn_since(before, seconds):
    """Say which global generators this thread has drawn from.

    Their states are those of the whole process. So where one has moved, a wait shows
    whether it is another thread that draws from it.

    Parameters
    ----------
    before : dict
        From :func:`generator_states`.
    seconds : float
        That have passed since.

    Returns
    -------
    drawn : list of str
        Names of libraries.
    others : list of str
        Those that another thread draws from: of these nothing can be said.
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
