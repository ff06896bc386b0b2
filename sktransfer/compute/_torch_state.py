"""What torch is set to while we compute, whatever the user has set it to."""

from contextlib import ExitStack, contextmanager

import torch

__all__ = ["own_torch_state"]


@contextmanager
def own_torch_state():
    """Compute as a new process does: float32, on the CPU by default, with gradients.

    Inside of the `with` block, or of a function that this decorates, gradients are
    recorded, inference mode and autocast are off, tensors are made in float32 and on
    the CPU. Afterwards all is as the user has set it.
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
