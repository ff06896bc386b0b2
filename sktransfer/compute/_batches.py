"""Batches: a size that fits the memory, padding, and the layout in memory."""

import warnings

import torch

__all__ = [
    "channels_last",
    "channels_second",
    "halving",
    "pad_rows",
    "use_channels_last",
]


def halving(compute, size, device, hint=""):
    """Run `compute`, halving the batch size on out-of-memory errors.

    Parameters
    ----------
    compute : callable
        Called with a batch size.
    size : int
        The batch size to try first.
    device : torch.device
    hint : str, default=""
        Further advice for the error message.

    Returns
    -------
    result : object
        Result of `compute`.
    size : int
        The batch size that fitted, with which to begin the next time.

    Raises
    ------
    MemoryError
        If the memory is too small for a single sample.
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
        size //= 2  # after `except`, whose traceback keeps tensors alive
        if device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"The memory of {device} is too small for so many samples at a time: going "
            f"on with {size}. `batch_size` sets it.",
            stacklevel=3,
        )


def pad_rows(z, n):
    """Append rows of zeros to a batch until it has n rows.

    Batches of different sizes are computed by different routines, which round
    differently. If all batches have one size, the result of a sample does not depend on
    the other samples of its batch.

    Parameters
    ----------
    z : torch.Tensor of shape (m, ...)
    n : int

    Returns
    -------
    torch.Tensor of shape (max(m, n), ...)
    """
    if len(z) >= n:
        return z
    return torch.cat([z, z.new_zeros(n - len(z), *z.shape[1:])])


def channels_last(z):
    """Lay feature maps out in memory with the channels last.

    Convolutions bring feature maps into the layout of their kernels, and are slow until
    they have done so. A different layout also means different rounding.

    Parameters
    ----------
    z : torch.Tensor of shape (n, c, h, w), or of any other shape
        Tensors that do not have four axes are made contiguous.

    Returns
    -------
    torch.Tensor
        The same values.
    """
    maps = z.ndim == 4
    return _lay_out(z, torch.channels_last if maps else torch.contiguous_format)


def channels_second(z):
    """Lay activations out in memory in the order of their axes.

    Parameters
    ----------
    z : torch.Tensor

    Returns
    -------
    torch.Tensor
        The same values, contiguous.
    """
    return _lay_out(z, torch.contiguous_format)


def _lay_out(z, memory_format):
    """Lay out a tensor, including the strides of axes of length one.

    The strides of such an axis may have any value, but routines are chosen by them: two
    equal tensors with different strides would be rounded differently.
    """
    z = z.contiguous(memory_format=memory_format)
    strides = torch.empty(z.shape, device="meta", memory_format=memory_format).stride()
    return z if z.stride() == strides else z.as_strided(z.shape, strides)


def use_channels_last(module):
    """Lay the kernels of a module out with the channels last, in place.

    Feature maps follow the layout of the kernels, and this one is the fastest for
    images. No value changes.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The given module.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(
                memory_format=torch.channels_last
            )
    return module
