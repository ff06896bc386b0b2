"""Errors about images that a network cannot take."""

import re

from torch import nn

_CHANNELS = re.compile(r"to have (\d+) channels, but got 3 channels")


class ImageError(ValueError):
    """A network cannot take images of this size, or cannot take RGB images."""


def channels_error(name: str, error: Exception) -> ImageError | None:
    """Return the error for a network that takes no RGB images, else None.

    ``error`` is the one that the network raised.
    """
    found = _CHANNELS.search(str(error))
    if found is None or found[1] == "3":
        return None
    return ImageError(
        f"The model inputs of {name!r} must have 3 channels, as images are read as "
        f"RGB. Its first convolution takes {found[1]}. For arrays of {found[1]} "
        "channels pass `load_backbone(module, preprocessing="
        "MultichannelPreprocessing(mean, std, size))` as `backbone`; for pictures make "
        "the network for 3, as with timm's `in_chans=3`, or wrap it in an nn.Module "
        "whose `forward` makes its input of (n, 3, h, w), as in "
        "`return self.network(x.mean(1, keepdim=True))` for grey."
    )


def check_patches(name, trace, module):
    """Raise an ImageError if the patches of a network do not cover its images.

    They do not if the first convolution has its kernel size as stride, and the height
    or width of the images is not a multiple of it.
    """
    shapes = {node: trace.shapes.get(i) for i, node in enumerate(trace.nodes)}
    image = shapes[trace.nodes[0]]
    for node in trace.nodes:
        layer = module.get_submodule(node.target) if node.op == "call_module" else None
        given = shapes.get(node.args[0]) if layer is not None and node.args else None
        if given != image or not _makes_patches(layer):
            continue
        size, sides = image[1:], layer.kernel_size
        if any(n % side for n, side in zip(size, sides, strict=True)):
            raise _patches_error(name, size, sides)


def _makes_patches(layer):
    return (
        isinstance(layer, nn.Conv2d)
        and layer.stride == layer.kernel_size
        and max(layer.kernel_size) > 1
        and layer.padding in ((0, 0), "valid", 0)
        and layer.dilation == (1, 1)
    )


def _patches_error(name, size, sides):
    pairs = list(zip(size, sides, strict=True))
    below = tuple(n // side * side for n, side in pairs)
    above = tuple(-(-n // side) * side for n, side in pairs)
    near = [f"{s}" for s in (below, above) if min(s) > 0]
    sides = sides[0] if sides[0] == sides[1] else sides
    return ImageError(
        f"`image_size` of {name!r} must be a multiple of {sides} px, its patches, as "
        f"it would not see the rest of the image. Got {tuple(size)}; the nearest: "
        f"{' and '.join(near)}."
    )


def size_error(name: str, size, own, reason: Exception | str) -> ImageError:
    """Return the error for an image size that a network cannot take.

    ``own`` is the size of the weights, and ``reason`` an exception or a text.
    """
    if isinstance(reason, Exception):
        reason = f"{type(reason).__name__}: {reason}"
    reason = reason.partition("While executing")[0]  # torch.fx names the node
    reason = " ".join(reason.split())[:200].rstrip(".:! ")
    return ImageError(
        f"`image_size` of {name!r} cannot be {tuple(size)}: {reason}. "
        f"Leave it out for the size of the weights, {tuple(own)}."
    )
