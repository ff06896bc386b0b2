"""Preprocessing of images of any number of channels, in arrays and in tensors."""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from sktransfer.inputs._parameters import channel_values, is_size


@dataclass(frozen=True)
class MultichannelPreprocessing:
    """Preprocessing of images of any number of channels, for a network of your own.

    An image is an array of numbers, such as the bands of a satellite or the stains of a
    microscope. It is resized in float32 where its size is not that of the model input,
    bilinearly and with antialiasing, and normalised per channel.

    The shape of an image is (h, w, c) or (c, h, w). If both the first and the last axis
    have as many values as there are channels, the last one is the channels; this is
    decided for each image of a list by itself.

    Parameters
    ----------
    mean, std : sequence, array or tensor of float, (n_channels,)
        Mean and standard deviation per channel, in the units of the arrays: nothing is
        scaled to [0, 1] before.
    size : tuple of int, (h, w)
        Height and width of the model input, in px.

    Raises
    ------
    ValueError
        If a parameter is of another form, `mean` or `std` is not finite, or `std` is
        not positive.

    See Also
    --------
    ImagePreprocessing : For pictures, which are read as RGB.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from sktransfer import PretrainedFeatureExtractor
    >>> from sktransfer.backbones import load_backbone
    >>> from sktransfer.inputs import MultichannelPreprocessing
    >>> network = nn.Sequential(nn.Conv2d(13, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    >>> mean, std = [900] * 13, [400] * 13
    >>> bands = MultichannelPreprocessing(mean=mean, std=std, size=(16, 16))
    >>> backbone = load_backbone(network, preprocessing=bands)
    >>> X = np.random.RandomState(0).randint(0, 2000, (6, 20, 20, 13))
    >>> PretrainedFeatureExtractor(backbone).fit_transform(X).shape
    (6, 4)
    """

    mean: tuple
    std: tuple
    size: tuple

    kind: ClassVar[str] = "multichannel"
    is_image: ClassVar[bool] = False
    is_costly_to_read: ClassVar[bool] = False
    tolerates_low_precision: ClassVar[bool] = False
    shape_hint: ClassVar[str] = (
        "It must take inputs of (n, channels, h, w), with as many channels as `mean` "
        "and the height and width of `size`."
    )

    def __post_init__(self):
        """Check the parameters, and convert them to plain Python types."""
        for name in ("mean", "std"):
            given = getattr(self, name)
            values = channel_values(given)
            if not values:
                raise ValueError(
                    f"`{name}` must hold a finite float for each channel. "
                    f"Got {given!r}."
                )
            object.__setattr__(self, name, values)
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                "`std` must hold a positive float for each channel, as many as `mean`, "
                f"which has {len(self.mean)}. Got {self.std!r}."
            )
        object.__setattr__(self, "size", _checked_size(self.size, "size"))

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    @property
    def resize(self) -> tuple[int, int]:
        """Size that random crops have, (h, w) in px."""
        return self.size

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one model input, (c, h, w)."""
        return (self.n_channels, *self.size)

    @property
    def prepared_shape(self) -> tuple[int, int, int]:
        """Shape of one prepared image, (h, w, c)."""
        return (*self.size, self.n_channels)

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        return f"multichannel-v1;size={self.size};mean={self.mean};std={self.std}"

    def with_size(self, image_size: int | tuple[int, int] | None) -> Self:
        """Return the same preprocessing for model inputs of another size.

        Parameters
        ----------
        image_size : int, tuple of int (h, w) or None
            Height and width of the model input, in px; an int stands for a square, None
            for the size as it is.

        Returns
        -------
        preprocessing : MultichannelPreprocessing
        """
        if image_size is None:
            return self
        if isinstance(image_size, Integral):
            image_size = (image_size, image_size)
        return replace(self, size=_checked_size(image_size, "image_size"))

    def example(self, n: int = 2) -> torch.Tensor:
        """Return model inputs of the right shape, all zero.

        Parameters
        ----------
        n : int, default=2
            Number of inputs.

        Returns
        -------
        example : float32 Tensor of shape (n, c, h, w)
            Zeros, on the CPU.
        """
        return torch.zeros(n, *self.input_shape)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Resize an image.

        Parameters
        ----------
        image : float32 ndarray of shape (h, w, c)

        Returns
        -------
        image : float32 ndarray of shape (h, w, c), of the size of the model input
            The same array where it has this size already.
        """
        if image.shape[:2] == self.size:
            return image
        image = np.require(image, requirements="W")  # else PyTorch warns
        return self.resized(torch.from_numpy(image)[None])[0].numpy()

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """Resize a batch of images, unless they have the size of the model input.

        Parameters
        ----------
        images : float32 Tensor of shape (b, h, w, c)

        Returns
        -------
        images : float32 Tensor of shape (b, h, w, c), of the size of the model input
        """
        if tuple(images.shape[1:3]) == self.size:
            return images
        x = images.permute(0, 3, 1, 2)  # (b, c, h, w)
        x = interpolate(x, self.size, mode="bilinear", antialias=True)
        return x.permute(0, 2, 3, 1).contiguous()

    def to_input(self, batch: torch.Tensor) -> torch.Tensor:
        """Normalise prepared images, on the device where they are.

        Parameters
        ----------
        batch : float32 Tensor of shape (b, h, w, c)
            Prepared images.

        Returns
        -------
        inputs : float32 Tensor of shape (b, c, h, w)
            ``(batch - mean) / std``.
        """
        mean, std = torch.tensor([self.mean, self.std], dtype=torch.float64)
        mean, std = (v.float().view(-1, 1, 1).to(batch.device) for v in (mean, std))
        return (batch.permute(0, 3, 1, 2).float() - mean) / std


def _checked_size(size, name):
    """Return a size (h, w) as a tuple of int."""
    if not is_size(size):
        raise ValueError(
            f"`{name}` must be a pair (h, w) of positive ints, in px. Got {size!r}."
        )
    return int(size[0]), int(size[1])


class RawMultichannel(nn.Module):
    """The first step of an exported network: resize images and normalise them."""

    names = ("images",)

    def __init__(self, preprocessing: MultichannelPreprocessing):
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute model inputs from images of shape (n, h, w, c), in their own units.

        Gradients reach the values of floats.
        """
        n_channels = self.preprocessing.n_channels
        if images.ndim != 4 or images.shape[3] != n_channels:
            raise ValueError(
                f"Images must be a tensor of shape (n, h, w, {n_channels}), the "
                f"channels last. Got shape {tuple(images.shape)}."
            )
        return self.preprocessing.to_input(self.preprocessing.resized(images.float()))

    def example(self, n: int, image_size=None) -> torch.Tensor:
        """Return random images, by default of the size of the model input."""
        preprocessing = self.preprocessing.with_size(image_size)
        mean, std = torch.tensor([preprocessing.mean, preprocessing.std])
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(n, *preprocessing.prepared_shape, generator=generator)
        return mean + std * noise

    def extra_repr(self):
        """Name the settings."""
        return self.preprocessing.key()
