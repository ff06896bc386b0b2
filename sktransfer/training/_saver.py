"""Save and resume a training, and restore weights after an error."""

from __future__ import annotations

import copy
import glob
import os
import socket
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer.compute import ALONE, RankError, Ranks
from sktransfer.training._net import SuffixNet


@contextmanager
def restore_weights_on_error(module: nn.Module) -> Iterator[None]:
    """Restore the weights of a module if the block is left by an error or interrupt.

    The module is then in eval mode.
    """
    before = copy.deepcopy(module.state_dict())
    try:
        yield
    except BaseException:
        module.load_state_dict(before)
        module.eval()
        raise


class Saver:
    """Checkpoint of a training, a file that is replaced after each epoch.

    The file is replaced as a whole: if the process is killed, it holds the state of the
    last epoch or of the one before. Several processes may save the same training to it.
    `views` are random views with methods `state_dict` and `load_state_dict`. Of the
    processes that train together (`ranks`), the first reads and writes the file.
    """

    def __init__(
        self, path: str | os.PathLike, views: Any = None, ranks: Ranks = ALONE
    ):
        self.path = Path(path)
        self.views = views
        self.ranks = ranks
        self._has_warned = False

    @property
    def _prefix(self):
        """Prefix of the names of this machine's incomplete files."""
        return f"{self.path.stem}.{socket.gethostname()}."

    def save(self, net: SuffixNet, generator: torch.Generator) -> None:
        """Save the state after an epoch, with that of the generator of sample orders.

        If it cannot be written, a warning says why, the file of an earlier epoch is
        kept, and the training continues.
        """
        state = {
            "module": net.module_.state_dict(),
            "criterion": net.criterion_.state_dict(),
            "optimizer": _plain(net.optimizer_.state_dict()),
            "callbacks": {k: _plain(c.state_dict()) for k, c in _with_state(net)},
            "best": _plain({k: c.best_score_ for k, c in _scoring(net)}),
            "history": _plain(net.history.to_list()),
            "n_batches": net.n_batches_done_,
            "order": generator.get_state(),
            "draws": self.ranks.collect(net.draws.states),
            "views": None if self.views is None else self.views.state_dict(),
            "others": [views.state_dict() for views in _views_of_others(net)],
        }
        try:
            if self.ranks.is_first:
                self._write(state)
        except OSError as error:
            self._warn(error)

    def _write(self, state):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = f"{self._prefix}{os.getpid()}.{uuid.uuid4().hex}.part"
        part = self.path.with_name(name)
        try:
            with open(part, "xb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)

    def _warn(self, error):
        if self._has_warned:
            return
        self._has_warned = True
        warnings.warn(
            f"The state of the training could not be written to {self.path} ({error}). "
            "The training continues, but cannot be resumed from here if it is "
            "interrupted. Free some space, or give another folder as `checkpoint`.",
            stacklevel=2,
        )

    def load(self, net: SuffixNet, generator: torch.Generator) -> int:
        """Restore the state from the file, and return the number of epochs done.

        Without a file, it is 0. The net must be initialised, but its callbacks'
        ``on_train_begin`` not yet called. It is a ValueError if the file is damaged or
        belongs to another training.
        """
        try:
            state = self.ranks.agree(self._read() if self.ranks.is_first else None)
            if state is None:
                return 0
            self._restore(state, net, generator)
        except RankError:
            raise
        except Exception as error:
            raise ValueError(
                f"The checkpoint {self.path} cannot be read ({error}). Remove it to "
                "start again."
            ) from error
        return len(state["history"])

    def _read(self):
        """Return the state in the file, on the CPU; None without a file."""
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, NotADirectoryError):  # maybe removed by another fit
            return None

    def _restore(self, state, net, generator):
        net.module_.load_state_dict(state["module"])
        net.criterion_.load_state_dict(state["criterion"])
        net.optimizer_.load_state_dict(state["optimizer"])
        for name, callback in _with_state(net):
            callback.load_state_dict(state["callbacks"][name])
        for name, callback in _scoring(net):  # skorch does not restore the best loss
            callback.best_score_ = state["best"].get(name, callback.best_score_)
        for row in state["history"]:
            net.history.append(row)
        net.n_batches_done_ = state["n_batches"]
        generator.set_state(state["order"].cpu())
        net.draws.states = state["draws"][self.ranks.rank]
        if self.views is not None:
            self.views.load_state_dict(state["views"])
        for views, kept in zip(_views_of_others(net), state["others"], strict=True):
            views.load_state_dict(kept)

    def remove(self) -> None:
        """Remove the file, and incomplete files that killed processes left."""
        if not self.ranks.is_first:
            return
        with suppress(FileNotFoundError, NotADirectoryError):
            self.path.unlink()
        for part in self.path.parent.glob(f"{glob.escape(self._prefix)}*.part"):
            if not _is_alive(int(part.name[len(self._prefix) :].partition(".")[0])):
                part.unlink(missing_ok=True)


def _is_alive(process):
    """Return whether a process of this machine may still exist."""
    if os.name == "nt":  # where os.kill would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        pass
    return True


def _with_state(net):
    return [(k, c) for k, c in net.callbacks_ if hasattr(c, "load_state_dict")]


def _scoring(net):
    return [(k, c) for k, c in net.callbacks_ if hasattr(c, "best_score_")]


def _views_of_others(net):
    """Return the random views that an objective draws from, as a list."""
    others = getattr(net.criterion_.objective, "others", None)
    return [others] if hasattr(others, "load_state_dict") else []


def _plain(value):
    """Convert NumPy values to Python values, as ``weights_only`` requires."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return value
