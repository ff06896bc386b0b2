"""Weights that a training which fails leaves as they were."""

import copy
from contextlib import contextmanager

__all__ = ["put_back_on_error"]


@contextmanager
def put_back_on_error(module):
    """Put the weights back if a `with` block raises, be it an interrupt.

    Parameters
    ----------
    module : torch.nn.Module
        Trained in place by the block. Then it is in eval mode.
    """
    before = copy.deepcopy(module.state_dict())
    try:
        yield
    except BaseException:
        module.load_state_dict(before)
        module.eval()
        raise
