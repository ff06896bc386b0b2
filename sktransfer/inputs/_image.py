"""From an RGB image to the input of a model: resize, centre crop, normalise."""

from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageOps

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

# Above this many pixels a resized image is not built in full: the shorter side
# of a 1 x 10000 image can only be brought to 256 px in 2 GB.
MAX_RESIZED_PIXELS = 2**26


def _is_length(value):
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1


def _is_size(value):
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(_is_length(length) for length in value)
    )


def _resized_size(height, width, resize):
    """Return the (h, w) that torchvision's ``Resize`` gives, with its rounding."""
    if isinstance(resize, tuple):
        return resize
    long = int(resize * max(height, width) / min(height, width))
    return (long, resize) if width <= height else (resize, long)


def _centre_crop(image, height, width):
    """Crop as torchvision's ``CenterCrop``: pad with black where too small."""
    extra_w, extra_h = max(width - image.width, 0), max(height - image.height, 0)
    if extra_w or extra_h:
        left, top = extra_w // 2, extra_h // 2
        image = ImageOps.expand(image, (left, top, extra_w - left, extra_h - top))
    if image.size == (width, height):
        return image
    top = round((image.height - height) / 2)
    left = round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _resize_and_crop(image, resized, size, resample):
    """Resize only what the crop keeps, for shapes too long to resize in full.

    Equal to the full way up to the rounding between Pillow's two passes, whose
    order depends on the size of the result.
    """
    (h, w), (height, width) = resized, size
    top, left = max(round((h - height) / 2), 0), max(round((w - width) / 2), 0)
    kept_h, kept_w = min(h, height), min(w, width)
    y, x = image.height / h, image.width / w  # source px per resized px
    box = (left * x, top * y, (left + kept_w) * x, (top + kept_h) * y)
    image = image.resize((kept_w, kept_h), resample, box=box)
    return _centre_crop(image, height, width)


@dataclass(frozen=True)
class ImagePreprocessing:
    """How the weights of a network want their images.

    An RGB image is resized, cropped at the centre, scaled to [0, 1] and
    normalised per channel. Resizing and cropping give, pixel for pixel, what
    torchvision's ``Resize`` and ``CenterCrop`` give on PIL images; only of an image
    so long that it would be resized to more than 67 million pixels, the part
    outside the crop is never made, which can change roundings.

    Parameters
    ----------
    size : tuple of int, (h, w)
        Height and width of the model input, in px.
    resize : int or tuple of int, (h, w)
        Size before the crop, in px: the length of the shorter side, with the
        aspect ratio kept, or the exact height and width.
    interpolation : str
        One of ``"nearest"``, ``"nearest-exact"``, ``"bilinear"``,
        ``"bicubic"``, ``"lanczos"``, ``"box"`` and ``"hamming"``.
    mean, std : tuple of float, (3,)
        Mean and standard deviation per channel, of values in [0, 1].

    Raises
    ------
    ValueError
        If a parameter does not follow its rule.

    Examples
    --------
    >>> from PIL import Image
    >>> from sktransfer.inputs import ImagePreprocessing
    >>> preprocessing = ImagePreprocessing(
    ...     size=(2, 2), resize=2, interpolation="bilinear",
    ...     mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    ... )
    >>> preprocessing.prepare(Image.new("RGB", (40, 30), "red"))[0, 0].tolist()
    [255, 0, 0]
    """

    size: tuple
    resize: int | tuple
    interpolation: str
    mean: tuple
    std: tuple

    kind: ClassVar[str] = "image"
    hint_for_shape: ClassVar[str] = (
        "If it takes one image size only, pass that as `image_size`, or make a network "
        "for the size that you want."
    )

    def __post_init__(self):
        """Check the parameters and give them their plain Python types."""
        if not _is_size(self.size):
            raise ValueError(
                "`size` must be a pair (h, w) of positive ints, in px. "
                f"Got {self.size!r}."
            )
        if not (_is_length(self.resize) or _is_size(self.resize)):
            raise ValueError(
                "`resize` must be a positive int (the shorter side) or a pair (h, w) "
                f"of positive ints, in px. Got {self.resize!r}."
            )
        if self.interpolation not in RESAMPLING:
            raise ValueError(
                f"`interpolation` must be one of {list(RESAMPLING)}. "
                f"Got {self.interpolation!r}."
            )
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) != 3 or not all(isinstance(v, Real) for v in value):
                raise ValueError(
                    f"`{name}` must hold 3 floats, one per channel. Got {value!r}."
                )
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be positive. Got {self.std!r}.")
        exact = not isinstance(self.resize, Integral)
        plain = {
            "size": tuple(int(length) for length in self.size),
            "resize": tuple(map(int, self.resize)) if exact else int(self.resize),
            "mean": tuple(float(v) for v in self.mean),
            "std": tuple(float(v) for v in self.std),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def input_shape(self):
        """Shape of one model input, (3, h, w)."""
        return (3, *self.size)

    def key(self):
        """Return a stable text of everything that affects the output.

        Returns
        -------
        key : str
            Begins with a version, which changes whenever the code behind
            ``prepare``, ``to_input`` or the decoding gives other values.
        """
        return (
            f"image-v1;size={self.size};resize={self.resize};"
            f"interpolation={self.interpolation};mean={self.mean};std={self.std}"
        )

    def resized_size(self, height, width):
        """Return the size that an image is resized to, before the crop.

        Parameters
        ----------
        height, width : int
            Of the image, in px.

        Returns
        -------
        size : tuple of int, (h, w)
            With torchvision's rounding.
        """
        return _resized_size(height, width, self.resize)

    def with_size(self, image_size):
        """Return the same preprocessing for model inputs of another size.

        Parameters
        ----------
        image_size : int, tuple of int (h, w) or None
            Height and width of the model input, in px; an int stands for a
            square, None for the size as it is.

        Returns
        -------
        preprocessing : ImagePreprocessing
            With the same ratio of ``resize`` to ``size``, rounded to px.

        Raises
        ------
        ValueError
            If `image_size` is neither of these.
        """
        if image_size is None:
            return self
        if not (_is_length(image_size) or _is_size(image_size)):
            raise ValueError(
                "`image_size` must be a positive int, a pair (h, w) of positive ints, "
                f"in px, or None for the size of the weights. Got {image_size!r}."
            )
        h, w = (image_size,) * 2 if _is_length(image_size) else image_size
        if isinstance(self.resize, int):
            # The longest side decides: a square image always fills the crop.
            resize = max(1, round(self.resize * max(h, w) / max(self.size)))
        else:
            resize = tuple(
                max(1, round(before * new / old))
                for before, new, old in zip(self.resize, (h, w), self.size, strict=True)
            )
        return replace(self, size=(h, w), resize=resize)

    def example(self, n=2):
        """Return model inputs of the right shape, all zero.

        Parameters
        ----------
        n : int, default=2
            Number of inputs.

        Returns
        -------
        example : float32 Tensor of shape (n, 3, h, w)
            Zeros, on the CPU.
        """
        return torch.zeros(n, *self.input_shape)

    def prepare(self, image):
        """Resize an image and crop it at the centre.

        Parameters
        ----------
        image : PIL.Image.Image
            In mode RGB, of any size.

        Returns
        -------
        pixels : uint8 ndarray of shape (h, w, 3)
            The pixels, in [0, 255]. Not writeable.
        """
        resample = RESAMPLING[self.interpolation]
        h, w = _resized_size(image.height, image.width, self.resize)
        if h * w > MAX_RESIZED_PIXELS:
            return np.asarray(_resize_and_crop(image, (h, w), self.size, resample))
        if image.size != (w, h):
            image = image.resize((w, h), resample)
        return np.asarray(_centre_crop(image, *self.size))

    def to_input(self, batch):
        """Normalise prepared images, on the device where they are.

        Parameters
        ----------
        batch : uint8 Tensor of shape (b, h, w, 3)
            Prepared images.

        Returns
        -------
        inputs : float32 Tensor of shape (b, 3, h, w)
            ``(batch / 255 - mean) / std``, in channels-last memory format.
        """
        mean, std = torch.tensor([self.mean, self.std], dtype=torch.float64)
        scale = (1 / (255 * std)).float().view(3, 1, 1).to(batch.device)
        shift = (-mean / std).float().view(3, 1, 1).to(batch.device)
        x = batch.permute(0, 3, 1, 2).float()  # (b, 3, h, w)
        return torch.addcmul(shift, x, scale)
