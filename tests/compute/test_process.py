import os
import threading
import warnings
from contextlib import contextmanager

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from sktransfer.activations import (
    _activations,
    _claims,
    _counts,
    _disk_store,
    process_store,
)
from sktransfer.backbones import _load
from sktransfer.compute import (
    Shards,
    _draws,
    _process,
    default_torch_state,
    fixed_threads,
    held_at_forks,
    in_forked_child,
    one_blas_thread,
)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_torch_has_one_thread_and_then_as_many_as_before(two_threads):
    with fixed_threads():
        assert torch.get_num_threads() == 1
        with fixed_threads():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_number_of_threads_is_restored_after_an_error(two_threads):
    with pytest.raises(KeyError), fixed_threads():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_the_setting_is_that_of_the_calling_thread(two_threads):
    begun, may_end = threading.Event(), threading.Event()

    def hold():
        with fixed_threads():
            begun.set()
            may_end.wait(10)

    torch.ones(1).sum()  # this thread has its number
    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(10)
    assert torch.get_num_threads() == 2
    may_end.set()
    thread.join()
    assert torch.get_num_threads() == 2


def _twice(part):
    return 2 * part


@pytest.mark.parametrize("n_workers", [1, 2, 4])
@pytest.mark.parametrize("n_parts", [1, 2, 7])
def test_results_come_in_order(n_workers, n_parts):
    with Shards([_twice] * n_workers) as shards:
        for _ in range(3):
            assert shards.map([*range(n_parts)]) == [2 * k for k in range(n_parts)]


def test_a_worker_is_used_by_one_thread_at_a_time():
    class Worker:
        busy = False

        def __call__(self, part):
            assert not self.busy
            self.busy = True
            torch.ones(200, 200) @ torch.ones(200, 200)
            self.busy = False

    with Shards([Worker(), Worker()]) as shards:
        shards.map([*range(40)])


@pytest.mark.parametrize("n_workers", [1, 3])
def test_each_part_is_computed_by_one_thread(n_workers):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Shards([lambda part: torch.get_num_threads()] * n_workers) as shards:
            assert shards.map([0, 1, 2]) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_first_error_is_raised_and_threads_end(n_workers):
    def fail(part):
        if part:
            raise ValueError(f"part {part}")
        return part

    before = threading.active_count()
    with (
        pytest.raises(ValueError, match="part 1"),
        Shards([fail] * n_workers) as shards,
    ):
        shards.map([0, 1, 2])
    assert threading.active_count() == before


LOCKS = {
    "draws": lambda: _draws._lock,
    "blas": lambda: _process._lock,
    "shared backbones": lambda: _load._lock,
    "memory store": lambda: process_store()._lock,
    "disk stores": lambda: _disk_store._stores_lock,
    "activations": lambda: _activations._lock,
    "claims": lambda: _claims._lock,
    "counts": lambda: _counts._lock,
}


def in_child(function):
    """Return whether a function is true in a forked process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        child = os.fork()
    if child == 0:
        os._exit(0 if function() else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("name", LOCKS)
def test_child_has_no_lock_that_another_thread_held(name):
    held, done = threading.Event(), threading.Event()

    def hold():
        with LOCKS[name]():
            held.set()
            assert done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    assert not LOCKS[name]().acquire(blocking=False)
    assert in_child(lambda: LOCKS[name]().acquire(blocking=False))
    done.set()
    thread.join()


def test_function_is_called_in_the_child_alone():
    seen = []
    in_forked_child(lambda: seen.append(os.getpid()))
    assert in_child(lambda: seen == [os.getpid()])
    assert seen == []


def test_fork_waits_for_the_section_of_another_thread():
    lock, inside, order = threading.RLock(), threading.Event(), []
    held_at_forks(lock)

    def work():
        with lock:
            inside.set()
            for _ in range(1000):
                order.append("work")
            order.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    assert in_child(lambda: order[-1] == "done" and lock.acquire(blocking=False))
    thread.join()
    assert lock.acquire(blocking=False)
    lock.release()


def test_without_fork_nothing_is_registered(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    in_forked_child(lambda: None)
    held_at_forks(threading.RLock())


def n_threads():
    blas = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    return {lib["num_threads"] for lib in blas}


def test_blas_has_one_thread():
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            assert n_threads() == {1}
        assert n_threads() == {2}


def test_setting_is_restored_in_any_order_of_threads():
    begun, may_end = threading.Event(), threading.Event()

    def first():
        with one_blas_thread():
            begun.set()
            assert may_end.wait(10)

    def second():
        with one_blas_thread():
            may_end.set()  # has no effect where the first is waited for

    with threadpool_limits(2, user_api="blas"):
        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        threads[0].start()
        assert begun.wait(10)
        threads[1].start()
        assert not may_end.wait(0.2)
        may_end.set()
        for thread in threads:
            thread.join()
        assert n_threads() == {2}


@contextmanager
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "dtype": float64_by_default,
}


def state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_device(),
        torch.get_default_dtype(),
    )


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_default_torch_state_is_set_and_restored(context):
    new = state()
    with context():
        users = state()
        assert users != new
        with default_torch_state():
            assert state() == new
        assert state() == users
        assert default_torch_state()(state)() == new
        with pytest.raises(KeyError), default_torch_state():
            raise KeyError
        assert state() == users
