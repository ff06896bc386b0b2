"""A context that leaves the attributes and buffers of modules as they were."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

_STRUCTURE = {*vars(nn.Module())} - {"_buffers"}


@contextmanager
def attributes_restored(
    modules: Iterable[nn.Module], *, keep: str = ""
) -> Iterator[None]:
    """Restore the attributes and buffers of modules after a `with` block.

    Inside the block the modules have copies of them, so that other objects that share
    one, such as a module with the same buffer, never see a change. Parameters and
    submodules are not copied. New attributes whose names begin with `keep` stay; ""
    keeps none.
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
