"""What a forward pass changes in the modules that it goes through, put back."""

import copy
from contextlib import contextmanager

from torch import nn

__all__ = ["state_put_back"]

_STRUCTURE = {*vars(nn.Module())} - {"_buffers"}


@contextmanager
def state_put_back(modules, *, keep=""):
    """Give modules back the attributes and buffers that they came with.

    Inside of the `with` block they have copies of these. So what holds an original,
    such as a buffer that two modules share, never sees a change.

    Parameters
    ----------
    modules : iterable of torch.nn.Module
        Their parameters and submodules are not copied.
    keep : str, default=""
        Beginning of the names of new attributes that stay; by default none do.
    """
    modules = list(dict.fromkeys(modules))
    parameters = (p for m in modules for p in m._parameters.values())
    shared = {id(thing): thing for thing in [*modules, *parameters]}
    originals = [dict(vars(module)) for module in modules]
    try:
        for module in modules:
            own = {k: v for k, v in vars(module).items() if k not in _STRUCTURE}
            vars(module).update(copy.deepcopy(own, shared))
        yield
    finally:
        for module, before in zip(modules, originals, strict=True):
            new = {k: v for k, v in vars(module).items() if k not in before}
            vars(module).clear()
            vars(module).update(before)
            if keep:
                kept = {k: v for k, v in new.items() if k.startswith(keep)}
                vars(module).update(kept)
