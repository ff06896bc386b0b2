"""Fewer samples at a time where the memory of a device is too small."""

import warnings

import torch

__all__ = ["halving"]


def halving(compute, size, device, hint=""):
    """Run `compute`, halving the batch size on out-of-memory errors.

    Parameters
    ----------
    compute : callable
        From a number of samples at a time to a result.
    size : int
        How many to try first.
    device : torch.device
    hint : str, default=""
        What else to advise where the memory is too small for one sample.

    Returns
    -------
    result : object
        What `compute` returned.
    size : int
        How many it took, to begin with the next time.

    Raises
    ------
    MemoryError
        If the memory is too small for one sample.
    """
    while True:
        try:
            return compute(size), size
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise MemoryError(
                    f"The memory of {device} is too small for one sample. {hint}"
                    "Take a smaller `image_size` or backbone, or device='cpu'."
                ) from error
        size //= 2  # outside of `except`, whose traceback holds what was computed
        if device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"The memory of {device} is too small for so many samples at a time: going "
            f"on with {size}. `batch_size` sets it.",
            stacklevel=3,
        )
