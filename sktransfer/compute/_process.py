"""What computations share with their process: torch's settings, threads and forks.

No result depends on what the user or another library has set, nor on the number of
threads or processes.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import Any

import torch
from threadpoolctl import threadpool_limits

_N_THREADS = 1


@contextmanager
def default_torch_state() -> Iterator[None]:
    """Set torch inside a `with` block as it is in a new process.

    Gradients are recorded, inference mode and autocast are off, and new tensors are in
    float32 and on the CPU. Afterwards everything is as the user has set it. It is also
    a decorator.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield


@contextmanager
def fixed_threads() -> Iterator[None]:
    """Compute operations of torch on the CPU in one thread inside a `with` block.

    The gradients of convolutions, BatchNorm and LayerNorm are sums over samples that
    are divided among the threads, and so are some convolutions. So the number of
    threads changes how results are rounded. joblib's workers have fewer threads than
    the process that started them: without this, a search with ``n_jobs=2`` would find
    other scores than one with ``n_jobs=1``. Other Python threads keep their setting.
    """
    before = torch.get_num_threads()
    if before == _N_THREADS:
        yield
        return
    torch.set_num_threads(_N_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS and LAPACK to one thread.

    Products and factorisations are rounded differently with another number of threads,
    and joblib's workers have fewer threads than the process that started them. The
    limit holds for the whole process, so only one Python thread at a time can be in
    this context.
    """
    with _lock, threadpool_limits(1, user_api="blas"):
        yield


class Shards:
    """Pool of threads that compute the parts of a batch; a context manager.

    How an operation rounds depends on the number of threads that share it. So each part
    is computed by one thread, and the number of threads changes how long a batch takes,
    but not the result. The workers are equal functions that share no state, one per
    thread; any of them may compute any part.
    """

    def __init__(self, workers: list[Callable]):
        self._workers = workers
        self._pool = None

    def __enter__(self):
        if len(self._workers) > 1:
            self._pool = ThreadPoolExecutor(
                len(self._workers), thread_name_prefix="sktransfer-compute"
            )
        return self

    def __exit__(self, *exception):
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, parts: list) -> list:
        """Apply a worker to each part; the results are in the order of the parts.

        An error that a worker raises is raised here once all parts are finished.
        """
        if self._pool is None or len(parts) == 1:
            with fixed_threads():
                return [self._workers[0](part) for part in parts]
        free = SimpleQueue()
        for worker in self._workers:
            free.put(worker)
        futures = [self._pool.submit(_apply, free, part) for part in parts]
        results = [future.exception() or future.result() for future in futures]
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results


def _apply(free, part):
    """Apply a worker that no other thread is using."""
    worker = free.get()
    try:
        with fixed_threads(), torch.autograd.set_multithreading_enabled(False):
            return worker(part)
    finally:
        free.put(worker)


def in_forked_child(function: Callable[[], object]) -> None:
    """Register a function to be called in every process that is forked from now on."""
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=function)


def fork_lock(module: dict[str, Any], name: str) -> threading.RLock:
    """Make the lock of a module, which is replaced in every forked process.

    A fork copies locks as they are, but not the threads that would release them.
    `module` is ``globals()``, and `name` the lock's name there.
    """

    def renew():
        module[name] = threading.RLock()

    renew()
    in_forked_child(renew)
    return module[name]


def held_at_forks(lock: threading.RLock) -> None:
    """Acquire a lock before every fork, so that no thread is in its section then.

    The section must not be copied half-way, as a transaction must not. After the fork
    the lock is free in both processes, unless the thread that forked held it.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire,
            after_in_parent=lock.release,
            after_in_child=lock.release,
        )


@functools.cache
def one_thread_in_forks():
    """Let processes that are forked from now on compute in one thread.

    A process that is forked from one that has computed in several threads waits forever
    for threads of OpenMP that it does not have
    (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=58378). It is called before the first
    computation rather than at import, which must not change the user's processes.
    """
    in_forked_child(functools.partial(torch.set_num_threads, 1))


_lock = fork_lock(globals(), "_lock")
