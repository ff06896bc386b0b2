"""The processes that train one network together, which accelerate has started.

Each of them, a rank, takes the same steps. Before each exchange of numbers the ranks
meet: each says which step it is at and whether it has failed. So a rank that raises an
error ends the others with it, and all of them can go on with another fit.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import distributed

from sktransfer.utils import TransferWarning, import_optional, spawn_seed

ACCELERATE = "accelerate"  # value of `device`
_STEPS = ("the end", "a choice", "a comparison", "gradients", "scores", "weights")
_LONGEST_WAIT = timedelta(days=1)
_Method = TypeVar("_Method", bound=Callable[..., Any])
_lost: list[str] = []  # why this process has lost the others


class RankError(RuntimeError):
    """Another process of this fit has failed, or cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a fit, and which of them this is.

    Its methods are called by all processes in the same order. In a single process they
    return what they are given.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    n : int
        Number of processes.
    """

    rank: int = 0
    n: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def share(self, n_samples: int) -> slice:
        """Return the rows of a batch that this process computes.

        They are none if there are fewer samples than processes, but the first process
        has some.
        """
        fewest, more = divmod(n_samples, self.n)
        first = self.rank * fewest + min(self.rank, more)
        return slice(first, first + fewest + (self.rank < more))

    def seed(self, seed: int) -> int:
        """Return the seed of this process's own draws; the first has the given one."""
        if self.is_first:
            return seed
        state = np.random.SeedSequence([seed, self.rank]).generate_state(1)
        return int(state[0] >> 1)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work in all processes inside a `with` block, until all have finished it.

        An error of one of them is raised in the others as a `RankError`. The first one
        alone gives the warnings of a fit.
        """
        if self.n == 1:
            yield
            return
        _check_thread()
        try:
            with warnings.catch_warnings():
                if not self.is_first:
                    warnings.simplefilter("ignore", TransferWarning)
                yield
            with _reaching(self):
                self._meet("the end")
        except RankError:
            raise
        except BaseException as error:
            with suppress(RankError), _reaching(self):
                self._meet("the end", failure=f"{type(error).__name__}: {error}")
            raise

    def agree(self, value: Any) -> Any:
        """Return the value of the first process."""
        if self.n == 1:
            return value
        box = [value if self.is_first else None]
        with _reaching(self):
            self._meet("a choice")
            distributed.broadcast_object_list(box, 0, group=_messages())
        return box[0]

    def check_equal(self, value: bytes, message: str) -> None:
        """Raise a ValueError with a message if a value is not the same in all."""
        if len({*self.collect(value)}) > 1:
            raise ValueError(message)

    def collect(self, value: Any) -> list:
        """Return the values of all processes, in their order."""
        if self.n == 1:
            return [value]
        with _reaching(self):
            self._meet("a comparison")
            return _gather_objects(value, self.n)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a number, of shape (), over all processes."""
        if self.n == 1:
            return value
        total = value.detach().double().reshape(1)
        with _reaching(self):
            self._meet("scores", size=1)
            distributed.all_reduce(total)
        return total[0].to(value.dtype)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Join the rows (n, k) of all processes, in their order, in float32.

        Those of a process without rows may have any k.
        """
        if self.n == 1:
            return rows
        with _reaching(self):
            shapes = self._meet("scores", shape=rows.shape)
            lengths, width = [n for n, _ in shapes], max(k for n, k in shapes if n)
            first = sum(lengths[: self.rank])
            joined = rows.new_zeros(sum(lengths), width, dtype=torch.float32)
            if len(rows):
                joined[first : first + len(rows)] = rows
            distributed.all_reduce(joined)
        return joined

    def sum_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Replace gradients by their sums over all processes.

        A parameter that has no gradient in any of them is left without.
        """
        if self.n == 1:
            return
        groups = _by_kind(p for p in parameters if p.requires_grad)
        joined = [_join_gradients(group) for group in groups]
        with _reaching(self):
            self._meet("gradients", size=sum(map(len, joined)))
            for values in joined:
                distributed.all_reduce(values)
        for group, values in zip(groups, joined, strict=True):
            _set_gradients(group, values)

    def copy_first(self, module: torch.nn.Module) -> None:
        """Replace the trainable weights of a module by those of the first process."""
        if self.n == 1:
            return
        groups = _by_kind(p for p in module.parameters() if p.requires_grad)
        joined = [torch.cat([p.detach().reshape(-1) for p in g]) for g in groups]
        with _reaching(self):
            self._meet("weights", size=sum(map(len, joined)))
            for values in joined:
                distributed.broadcast(values, 0)
        for group, values in zip(groups, joined, strict=True):
            parts = values.split([p.numel() for p in group])
            for parameter, part in zip(group, parts, strict=True):
                parameter.detach().copy_(part.view(parameter.shape))

    def _meet(self, step, *, size=0, shape=(0, 0), failure=None):
        """Wait for all processes at a step; return the shapes that they tell.

        Raises a `RankError` if one of them has failed, or is at another step.
        """
        told = [_STEPS.index(step), size, failure is not None, *shape]
        message = torch.tensor(told)
        found = [torch.empty_like(message) for _ in range(self.n)]
        distributed.all_gather(found, message, group=_messages())
        rows = torch.stack(found).tolist()
        if any(has_failed for _, _, has_failed, *_ in rows):
            texts = enumerate(_gather_objects(failure, self.n))
            failed = [f"rank {i} of {self.n} ended with {t}" for i, t in texts if t]
            raise RankError(f"Another process failed: {'; '.join(failed)}")
        if len({(*row[:2],) for row in rows}) > 1:
            where = [f"rank {i} at {_STEPS[row[0]]}" for i, row in enumerate(rows)]
            raise RankError(
                f"The processes of this fit take different steps: {', '.join(where)}. "
                "Give all of them the same samples and parameters, and let callbacks "
                "depend neither on the time nor on the process."
            )
        return [shape for _, _, _, *shape in rows]


ALONE = Ranks()


def _gather_objects(value, n):
    values = [None] * n
    distributed.all_gather_object(values, value, group=_messages())
    return values


@contextmanager
def _reaching(ranks):
    """Say what happened if another process cannot be reached.

    An exchange that was left half-way cannot be completed, so the connections are
    closed, which ends the others as well.
    """
    if _lost:
        raise RankError(f"{_lost[0]} Start the processes again to fit again.")
    try:
        yield
    except RankError:
        raise
    except BaseException as error:
        _lost.append(
            f"Rank {ranks.rank} of {ranks.n} cannot reach the others: one of them was "
            "killed, or does not answer. Their output says why or, where memory ran "
            f"out, the log of the system ({str(error).partition('. ')[0]})."
        )
        with suppress(Exception):
            _close()
        if not isinstance(error, Exception):
            raise
        raise RankError(_lost[0]) from error


@functools.cache
def _messages():
    """Return the group of processes for messages.

    With gloo, processes notice at once if another one is killed. So they may wait long
    for one that reads more slowly.
    """
    return distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)


def _by_kind(parameters):
    """Group parameters by dtype and device, each of which is exchanged at once."""
    groups: dict[tuple, list] = {}
    for parameter in parameters:
        groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    return [*groups.values()]


def _join_gradients(parameters):
    """Return all gradients in one tensor, and at its end 1 for each that there is."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    exist = parts[0].new_tensor([p.grad is not None for p in parameters])
    return torch.cat([*(part.detach().reshape(-1) for part in parts), exist])


def _set_gradients(parameters, values):
    sizes = [p.numel() for p in parameters]
    *parts, exist = values.split([*sizes, len(parameters)])
    for parameter, part, n in zip(parameters, parts, exist.tolist(), strict=True):
        if not n:
            continue
        if parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)
        parameter.grad.copy_(part.view(parameter.shape))


def _check_thread():
    if threading.current_thread() is not threading.main_thread():
        raise ValueError(
            "`device='accelerate'` trains in the main thread of each process, since "
            "all of them must take the same steps. Use `n_jobs=1` around such fits."
        )


# Which processes there are


def is_accelerate(device: Any) -> bool:
    """Return whether a device is that of accelerate, in a process that it started.

    Workers of joblib and of clusters train for themselves, although they inherit the
    variables of the process that started them.
    """
    is_worker = multiprocessing.current_process().name != "MainProcess"
    return isinstance(device, str) and device == ACCELERATE and not is_worker


def ranks_of(device: Any) -> Ranks:
    """Return the processes of a fit on a device; a single one unless by accelerate."""
    return _of_accelerate()[0] if is_accelerate(device) else ALONE


def device_of_rank() -> torch.device:
    """Return the device that accelerate gives this process."""
    return _of_accelerate()[1]


@functools.cache
def _of_accelerate():
    accelerate = import_optional(
        ACCELERATE, feature="`device='accelerate'`", extra=ACCELERATE
    )
    device = accelerate.PartialState(cpu=_asks_for_cpu()).device
    if device.type == "cpu":
        device = torch.device("cpu")  # without a number, as tensors name it
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE, device
    atexit.register(_close)
    return Ranks(distributed.get_rank(), distributed.get_world_size()), device


def _close():
    """Close the connections, whose threads abort a process that ends while they run."""
    if not distributed.is_initialized():
        return
    if _messages.cache_info().currsize:
        distributed.destroy_process_group(_messages())
        _messages.cache_clear()  # a group lives as long as it is referred to
    if not _lost or distributed.get_backend() == "gloo":  # NCCL waits for lost ones
        distributed.destroy_process_group()


def _asks_for_cpu():
    """Whether processes are on the CPU, of which accelerate has to be told."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    is_launched = int(os.environ.get("LOCAL_RANK", -1)) != -1
    found = torch.accelerator.current_accelerator(check_available=True)
    return asked or (is_launched and (found is None or found.type == "mps"))


def shared_seed(random_state: Any, device: Any) -> int:
    """Draw a seed from a random state, which is the same in all processes of a fit."""
    return cast(int, ranks_of(device).agree(spawn_seed(random_state)))


def in_all_ranks(method: _Method) -> _Method:
    """Let a method of an estimator with a `device` work in all processes together."""

    @functools.wraps(method)
    def work(self: Any, *args: Any, **kwargs: Any) -> Any:
        with ranks_of(self.device).together():
            return method(self, *args, **kwargs)

    return cast(_Method, work)
