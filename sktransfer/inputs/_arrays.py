"""The layout of array samples, and their way to an RGB image."""

from mmap import mmap
from numbers import Integral

import numpy as np
import torch
from PIL import Image

from sktransfer.inputs._value_range import to_uint8

CHANNELS_LAST = (1, 3, 4)
CHANNELS_FIRST = (1, 3)
FLOATS_OF_NUMPY = (torch.float16, torch.float32, torch.float64)


def to_numpy(values):
    """Return an array for a tensor or any array-like, without a copy if possible.

    Parameters
    ----------
    values : Tensor or array-like
        A tensor may be on any device, and have a gradient.

    Returns
    -------
    values : ndarray
        Of float32 where numpy does not have the dtype.

    Raises
    ------
    TypeError
        If a tensor is sparse or nested, or has no values.
    """
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    _check_tensor(values)
    values = values.detach().cpu()
    if values.is_floating_point() and values.dtype not in FLOATS_OF_NUMPY:
        values = values.float()
    return values.resolve_conj().resolve_neg().numpy()


def _check_tensor(values):
    if values.is_nested:
        raise TypeError(
            "Samples must be dense. Got a nested tensor; pass `list(X.unbind())`."
        )
    if values.layout != torch.strided:
        raise TypeError(
            f"Samples must be dense. Got a tensor of layout {values.layout}; "
            "pass `X.to_dense()`."
        )
    if values.is_meta:
        raise TypeError(
            "Samples must have values. Got a tensor on the device 'meta', which holds "
            "none; make it on another device."
        )


def is_mapped(values):
    """Say whether an array lies in a file, which others may write to (bool)."""
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap)


def check_image_shape(image_shape):
    """Return `image_shape` as a tuple of 2 or 3 ints, or None.

    Parameters
    ----------
    image_shape : tuple of int or None
        (h, w), (h, w, c) or (c, h, w), in px.

    Returns
    -------
    image_shape : tuple of int or None
        The same, as a tuple.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if image_shape is None:
        return None
    valid = (
        isinstance(image_shape, (tuple, list))
        and len(image_shape) in (2, 3)
        and all(isinstance(k, Integral) and k >= 1 for k in image_shape)
    )
    if valid and len(image_shape) == 3:
        valid = image_shape[2] in CHANNELS_LAST or image_shape[0] in CHANNELS_FIRST
    if not valid:
        raise ValueError(
            "`image_shape` must be (h, w), (h, w, c) with 1, 3 or 4 channels, or "
            f"(c, h, w) with 1 or 3 channels. Got {image_shape!r}."
        )
    return tuple(int(k) for k in image_shape)


def channels_last(array, image_shape=None):
    """View one sample as (h, w, c).

    Parameters
    ----------
    array : ndarray of shape (h, w), (h, w, c), (c, h, w) or (d,)
        One sample. Where both the first and the last axis can be the channels,
        the last axis is.
    image_shape : tuple of int or None, default=None
        What a flat sample is reshaped to, and what any other has to agree with.

    Returns
    -------
    pixels : ndarray of shape (h, w, c)
        A view, with 1, 3 or 4 channels.

    Raises
    ------
    ValueError
        If the shape is not that of an image or does not agree with `image_shape`.
    """
    shape = array.shape
    if array.size == 0:
        raise ValueError(f"An image must have at least one pixel. Got shape {shape}.")
    if array.ndim == 1:
        array = _unflatten(array, image_shape)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise ValueError(
            "The array of one image must have shape (h, w), (h, w, c), (c, h, w) or, "
            f"with `image_shape`, (d,). Got shape {shape}."
        )
    if array.shape[2] not in CHANNELS_LAST:
        if array.shape[0] not in CHANNELS_FIRST:
            raise ValueError(
                "An image must have 1, 3 or 4 channels in its last axis, or 1 or 3 "
                f"in its first. Got shape {shape}; select or convert the channels."
            )
        array = np.moveaxis(array, 0, 2)
    if image_shape is not None and image_shape not in _shapes_of(array):
        raise ValueError(
            f"Arrays must agree with `image_shape`={image_shape}. Got shape {shape}; "
            "leave `image_shape` out unless the rows are flat."
        )
    return array


def _shapes_of(array):
    h, w, c = array.shape
    return (h, w), (h, w, c), (c, h, w)


def _unflatten(row, image_shape):
    if image_shape is None:
        side = round(row.size**0.5)
        example = (side, side) if side * side == row.size else "(h, w)"
        raise ValueError(
            f"Flat rows of {row.size} values need `image_shape` to become images. "
            f"Pass for example `image_shape={example}`, or (h, w, 3) or (3, h, w) "
            "for colour images."
        )
    expected = int(np.prod(image_shape))
    if row.size != expected:
        hint = ""
        if len(image_shape) == 2 and row.size == 3 * expected:
            hint = f" For colour images add 3: {(*image_shape, 3)} or "
            hint += f"{(3, *image_shape)}."
        raise ValueError(
            f"Flat rows must have {expected} values to be reshaped to `image_shape`="
            f"{image_shape}. Got {row.size} values.{hint}"
        )
    return row.reshape(image_shape)


def array_to_image(array, image_shape, value_range):
    """Return the RGB image of one array sample.

    Parameters
    ----------
    array : ndarray of shape (h, w), (h, w, c), (c, h, w) or (d,)
        One sample.
    image_shape : tuple of int or None
        See `channels_last`.
    value_range : tuple of float (low, high)
        The values that stand for black and for full intensity.

    Returns
    -------
    image : PIL.Image.Image
        In mode RGB; an alpha channel is laid over white.

    Raises
    ------
    ValueError
        If shape or values are not those of an image.
    """
    pixels = to_uint8(channels_last(array, image_shape), value_range)  # (h, w, c)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image if image.mode == "RGB" else over_white(image)


def over_white(image):
    """Lay an RGBA image over white and drop its alpha channel."""
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
