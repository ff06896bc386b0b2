"""What a forked process must not take over from the one it was forked from."""

import functools
import os

import torch

__all__ = ["held_at_forks", "in_forked_child", "one_thread_in_forks"]


def in_forked_child(renew):
    """Have a function called in every process that is forked from now on.

    A fork copies locks as they are, but not the threads that would release them.

    Parameters
    ----------
    renew : callable
        Without arguments; makes locks anew.
    """
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=renew)


def held_at_forks(lock):
    """Have a lock held by the thread that forks, so that nobody is in its section then.

    Parameters
    ----------
    lock : threading.RLock
        Of sections that must not be copied half-way, as transactions. Both processes
        have it free, unless the thread that forks held it.
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

    After a process has computed in several, one that is forked from it waits forever
    for threads of OpenMP that it does not have
    (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=58378). So this is for whoever is
    about to compute, and not for an import.
    """
    in_forked_child(functools.partial(torch.set_num_threads, 1))
