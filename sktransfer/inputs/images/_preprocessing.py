"""Preprocessing of images to model inputs, as the weights expect it."""

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import ClassVar, Self

import numpy as np
import torch
from PIL import Image

from sktransfer.inputs._parameters import channel_values, is_length, is_size
from sktransfer.inputs.images._files import BOX
from sktransfer.inputs.images._resize import RESAMPLING

# Above this many pixels a resized image is not built in full: the shorter side
# of a 1 x 10000 image can only be brought to 256 px in 2 GB.
MAX_RESIZED_PIXELS = 2**26


@dataclass(frozen=True)
class ImagePreprocessing:
    """Preprocessing of images, as the weights of a network expect it.

    An RGB image is resized and cropped at the centre by torchvision, as a PIL image,
    scaled to [0, 1] and normalised per channel. If the resized image had more than 67
    million pixels, because one side is much longer than the other, only the part
    inside the crop is resized, which can change roundings.

    Parameters
    ----------
    size : tuple of int, (h, w), default=(224, 224)
        Height and width of the model input, in px.
    resize : int or tuple of int, (h, w), default=None
        Size before the crop, in px: the length of the shorter side, with the
        aspect ratio kept, or the exact height and width. None is exactly `size`.
    interpolation : str, default="bilinear"
        One of ``"nearest"``, ``"nearest-exact"``, ``"bilinear"``,
        ``"bicubic"``, ``"lanczos"``, ``"box"`` and ``"hamming"``.
    mean, std : sequence, array or tensor of float, (3,)
        Mean and standard deviation per channel, of values in [0, 1]. By default those
        of ImageNet, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).
    reducing_gap : float, default=None
        At least 1. JPEG files that are larger than this many times ``resize`` are
        decoded at 1/2, 1/4 or 1/8 of their size, the smallest that is not below it, as
        by Pillow's ``Image.draft``. It saves much of the time that large photographs
        take, and changes pixels by less than 1 of 255 on average at 2.0. None decodes
        in full.

    Raises
    ------
    ValueError
        If a parameter is of another form, `mean` or `std` is not finite, or `std` is
        not positive.

    See Also
    --------
    MultichannelPreprocessing : For arrays of any number of channels.

    Examples
    --------
    >>> from PIL import Image
    >>> from sktransfer.inputs import ImagePreprocessing
    >>> preprocessing = ImagePreprocessing(size=(2, 2), mean=(0.5, 0.5, 0.5))
    >>> preprocessing.prepare(Image.new("RGB", (40, 30), "red"))[0, 0].tolist()
    [255, 0, 0]
    """

    size: tuple = (224, 224)
    resize: int | tuple = None  # type: ignore[assignment]  # replaced by `size`
    interpolation: str = "bilinear"
    mean: tuple = (0.485, 0.456, 0.406)
    std: tuple = (0.229, 0.224, 0.225)
    reducing_gap: float | None = None

    kind: ClassVar[str] = "image"
    is_image: ClassVar[bool] = True
    is_costly_to_read: ClassVar[bool] = True
    tolerates_low_precision: ClassVar[bool] = True
    shape_hint: ClassVar[str] = (
        "If it takes one image size only, pass that as `image_size`, or make a network "
        "for the size that you want."
    )

    def __post_init__(self):
        """Check the parameters, and convert them to plain Python types."""
        if self.resize is None:
            object.__setattr__(self, "resize", self.size)
        self._check()
        exact = not isinstance(self.resize, Integral)
        plain = {
            "size": tuple(int(length) for length in self.size),
            "resize": tuple(map(int, self.resize)) if exact else int(self.resize),
            "mean": channel_values(self.mean),
            "std": channel_values(self.std),
        }
        if self.reducing_gap is not None:
            plain["reducing_gap"] = float(self.reducing_gap)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def _check(self):
        if not is_size(self.size):
            raise ValueError(
                "`size` must be a pair (h, w) of positive ints, in px. "
                f"Got {self.size!r}."
            )
        if not (is_length(self.resize) or is_size(self.resize)):
            raise ValueError(
                "`resize` must be a positive int (the shorter side) or a pair (h, w) "
                f"of positive ints, in px. Got {self.resize!r}."
            )
        if self.interpolation not in RESAMPLING:
            raise ValueError(
                f"`interpolation` must be one of {[*RESAMPLING]}. "
                f"Got {self.interpolation!r}."
            )
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(channel_values(value)) != 3:
                raise ValueError(
                    f"`{name}` must hold 3 finite floats, one per channel. Got "
                    f"{value!r}; for another number of channels, see "
                    "`MultichannelPreprocessing`."
                )
        if min(channel_values(self.std)) <= 0:
            raise ValueError(f"`std` must be positive. Got {self.std!r}.")
        gap = self.reducing_gap
        is_number = isinstance(gap, Real) and not isinstance(gap, bool)
        if gap is not None and not (is_number and 1 <= gap < float("inf")):
            raise ValueError(
                f"`reducing_gap` must be a number of at least 1, or None. Got {gap!r}."
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one model input, (3, h, w)."""
        return (3, *self.size)

    @property
    def prepared_shape(self) -> tuple[int, int, int]:
        """Shape of one prepared image, (h, w, 3)."""
        return (*self.size, 3)

    def key(self) -> str:
        """Return a stable text of everything that affects the output.

        Returns
        -------
        key : str
            Begins with a version, which changes whenever the code behind
            ``prepare``, ``to_input`` or the decoding gives other values.
        """
        gap = "" if self.reducing_gap is None else f";reducing_gap={self.reducing_gap}"
        return (
            f"image-v1;size={self.size};resize={self.resize};"
            f"interpolation={self.interpolation};mean={self.mean};std={self.std}{gap}"
        )

    @property
    def least_side(self) -> int | None:
        """Side, in px, that decoding may not make an image smaller than (int or None).

        None stands for decoding in full.
        """
        if self.reducing_gap is None:
            return None
        resize = self.resize if isinstance(self.resize, int) else max(self.resize)
        return math.ceil(self.reducing_gap * resize)

    def resized_size(self, height: float, width: float) -> tuple[int, int]:
        """Return the size that an image is resized to, before the crop.

        Parameters
        ----------
        height, width : float
            Size of the image, in px.

        Returns
        -------
        size : tuple of int, (h, w)
            With torchvision's rounding.
        """
        if isinstance(self.resize, tuple):
            return self.resize
        short = self.resize
        long = int(short * max(height, width) / min(height, width))
        return (long, short) if width <= height else (short, long)

    def with_size(self, image_size: int | tuple[int, int] | None) -> Self:
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
        if not (is_length(image_size) or is_size(image_size)):
            raise ValueError(
                "`image_size` must be a positive int, a pair (h, w) of positive ints, "
                f"in px, or None for the size of the weights. Got {image_size!r}."
            )
        if not isinstance(image_size, tuple | list):
            image_size = (image_size, image_size)
        h, w = image_size
        if isinstance(self.resize, int):
            # The longest side decides: a square image always fills the crop.
            resize = max(1, round(self.resize * max(h, w) / max(self.size)))
        else:
            resize = tuple(
                max(1, round(before * new / old))
                for before, new, old in zip(self.resize, (h, w), self.size, strict=True)
            )
        return replace(self, size=(h, w), resize=resize)

    def example(self, n: int = 2) -> torch.Tensor:
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

    def prepare(self, image: Image.Image) -> np.ndarray:
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
        from torchvision.transforms.v2.functional import center_crop, resize

        whole = image.info.get(BOX)
        left, top, right, bottom = whole or (0, 0, *image.size)
        size = self.resized_size(bottom - top, right - left)
        filter = RESAMPLING[self.interpolation]
        if size[0] * size[1] > MAX_RESIZED_PIXELS:
            image = self._resize_inside_crop(image, size)
        elif whole:
            image = image.resize(size[::-1], filter, box=whole)
        else:
            image = resize(image, list(size), filter)
        return np.asarray(center_crop(image, list(self.size)))

    def _resize_inside_crop(self, image, size):
        """Resize only the part that the crop keeps.

        Equal to resizing all of it, up to the rounding between Pillow's two passes,
        whose order depends on the size of the result.
        """
        kept = [*map(min, size, self.size)]
        top, left = (round((s - k) / 2) for s, k in zip(size, kept, strict=True))
        y, x = image.height / size[0], image.width / size[1]  # source px per resized px
        box = (left * x, top * y, (left + kept[1]) * x, (top + kept[0]) * y)
        return image.resize(kept[::-1], RESAMPLING[self.interpolation], box=box)

    def to_input(self, batch: torch.Tensor) -> torch.Tensor:
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


IMAGENET = ImagePreprocessing(resize=256)
