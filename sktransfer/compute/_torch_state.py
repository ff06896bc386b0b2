"""Contexts that leave torch's settings and modules' attributes as they were."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

_STRUCTURE = {*vars(nn.Module())} - {"_buffers"}


@contextmanager
def own_torch_state() -> Iterator[None]:
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
def state_put_back(modules: Iterable[nn.Module], *, keep: str = "") -> Iterator[None]:
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
