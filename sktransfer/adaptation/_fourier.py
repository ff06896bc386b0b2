"""Fourier domain adaptation: the style of one image, the content of another."""

import numpy as np

__all__ = ["mix_amplitudes"]


def mix_amplitudes(pixels, reference, *, beta=0.01, share=1.0):
    """Give an image the slow changes of another, and keep where its edges are.

    The amplitudes of the lowest frequencies are taken from the reference, all phases
    and the other amplitudes are those of the image.

    Parameters
    ----------
    pixels : array of shape (h, w, c)
        Values in [0, 255].
    reference : array of shape (h, w, c)
        Another image of the same size.
    beta : float, default=0.01
        Which frequencies are low: up to ``beta`` times the shorter side, in waves per
        image. 0 leaves the image as it is; anything above takes over the means, and
        from 0.1 on the reference can be seen.
    share : float, default=1.0
        How far to go from the image's own amplitudes to the reference's.

    Returns
    -------
    float array of shape (h, w, c)
        Not clipped.

    Raises
    ------
    ValueError
        If the shapes differ, or `beta` or `share` is out of range.

    References
    ----------
    Y. Yang, S. Soatto (2020). FDA: Fourier Domain Adaptation for Semantic Segmentation.
    https://arxiv.org/abs/2004.05498

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import mix_amplitudes
    >>> image, reference = np.zeros((8, 8, 3)), np.full((8, 8, 3), 100.0)
    >>> mix_amplitudes(image, reference)[0, 0]
    array([100., 100., 100.])
    """
    pixels, reference = np.asarray(pixels, float), np.asarray(reference, float)
    _check(pixels, reference, beta, share)
    own = np.fft.fft2(pixels, axes=(0, 1))
    other = np.abs(np.fft.fft2(reference, axes=(0, 1)))
    low = _low_frequencies(pixels.shape[:2], beta)
    amplitude = np.abs(own)
    amplitude[low] += share * (other[low] - amplitude[low])
    mixed = amplitude * np.exp(1j * np.angle(own))
    return np.fft.ifft2(mixed, axes=(0, 1)).real


def _low_frequencies(shape, beta):
    """Return a mask of shape (h, w), in the order of the transform."""
    if beta == 0:
        return np.zeros(shape, dtype=bool)
    most = np.floor(beta * min(shape))
    h, w = (np.rint(np.abs(np.fft.fftfreq(n) * n)) <= most for n in shape)
    return h[:, None] & w


def _check(pixels, reference, beta, share):
    if pixels.ndim != 3 or pixels.shape != reference.shape:
        raise ValueError(
            "`reference` must have the shape of `pixels`, (h, w, c). Got "
            f"{reference.shape} and {pixels.shape}; resize it."
        )
    for name, value, high in (("beta", beta, 0.5), ("share", share, 1)):
        if not 0 <= value <= high:
            raise ValueError(f"`{name}` must be in [0, {high}]. Got {value!r}.")
