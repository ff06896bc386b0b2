"""Augmentation that changes the style of images at random, whatever the target."""

from typing import Any

import torch
from torchvision.transforms import v2

_LARGEST_NOISE = 40.0  # standard deviation, in levels of 255


class RandomStyle(v2.Compose):
    """Change colours, sharpness, noise and compression of images at random.

    Colours are jittered in four of five images, and removed or inverted in one of five
    each; blur, noise and JPEG compression are added to two of five each. The content
    stays in its place. Unlike :class:`TargetStyle`, this needs no images of the target:
    it prepares a network for styles that are not known.

    Parameters
    ----------
    p : float, default=0.75
        Probability that an image is changed at all.

    See Also
    --------
    TargetStyle : Moves images towards the style of given ones.

    Examples
    --------
    >>> from sktransfer import Augmentation, FineTunedClassifier
    >>> from sktransfer.adaptation import RandomStyle
    >>> augment = Augmentation(RandomStyle(), n_views=4)
    >>> model = FineTunedClassifier(augment=augment)
    """

    for_source_only = True  # the style of target images is the one to predict for

    def __init__(self, p: float = 0.75):
        steps = [
            v2.RandomApply([v2.ColorJitter(0.5, 0.7, 0.5, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomInvert(0.2),
            v2.RandomApply([v2.GaussianBlur(7, (0.1, 2.0))], 0.4),
            v2.RandomApply([_Noise()], 0.4),
            v2.RandomApply([v2.JPEG((20, 90))], 0.4),
        ]
        super().__init__([v2.RGB(), v2.RandomApply(steps, p)])


class _Noise(v2.Transform):
    """Add Gaussian noise of random strength to 8-bit images."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"scale": float(torch.rand(())) * _LARGEST_NOISE}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        pixels = v2.functional.to_image(inpt)
        noisy = pixels + params["scale"] * torch.randn(pixels.shape)
        noisy = noisy.round().clamp(0, 255).to(torch.uint8)
        is_tensor = isinstance(inpt, torch.Tensor)
        return noisy if is_tensor else v2.functional.to_pil_image(noisy)
