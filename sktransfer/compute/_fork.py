"""What a forked process must not take over from the one it was forked from."""

import functools
import os

import torch

__all__ = ["in_forked_child", "one_thread_in_forks"]


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


@functools.cache
def one_thread_in_forks():
    """Let processes that are forked from now on compute in one thread.

    After a process has computed in several, one that is forked from it waits forever
    for threads of OpenMP that it does not have
    (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=58378). So this is for whoever is
    about to compute, and not for an import.
    """
    in_forked_child(functools.partial(torch.set_num_threads, 1))
