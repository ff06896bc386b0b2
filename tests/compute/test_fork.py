import os
import threading
import warnings

import pytest

from sktransfer.activations import _disk_store, process_store
from sktransfer.backbones import _shared
from sktransfer.compute import _draws, _threads, held_at_forks, in_forked_child

LOCKS = {
    "draws": lambda: _draws._lock,
    "blas": lambda: _threads._lock,
    "shared backbones": lambda: _shared._lock,
    "memory store": lambda: process_store()._lock,
    "disk stores": lambda: _disk_store._stores_lock,
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
