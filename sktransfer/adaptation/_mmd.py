"""Maximum mean discrepancy: two samples compared by the means of kernels."""

import torch

__all__ = ["gaussian_kernels", "joint_mmd_loss", "mmd_loss"]

# Factors on the median of the squared distances, one for each kernel.
_WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
_ROUNDING = 16  # features differ by so many units in the last place for no reason


def gaussian_kernels(x, widths=_WIDTHS, bandwidth=None):
    """Compute the mean of several Gaussian kernels between all pairs of rows.

    Parameters
    ----------
    x : torch.Tensor of shape (n, d)
    widths : tuple of float, default=(0.125, 0.25, 0.5, 1.0, 2.0)
        Each kernel is ``exp(-d² / (width * bandwidth))``.
    bandwidth : float, default=None
        By default the median of the squared distances of different rows, but no less
        than what rounding makes of equal ones. No gradient goes through it.

    Returns
    -------
    torch.Tensor of shape (n, n)
        In [0, 1].

    References
    ----------
    A. Gretton et al. (2012). A Kernel Two-Sample Test.
    https://jmlr.org/papers/v13/gretton12a.html
    """
    distances = _SquaredDistances.apply(x)  # (n, n)
    if bandwidth is None:
        bandwidth = _bandwidth(x.detach(), distances.detach())
    return sum(torch.exp(-distances / (w * bandwidth)) for w in widths) / len(widths)


class _SquaredDistances(torch.autograd.Function):
    """Between all rows, from their differences: small ones are not cancelled away.

    The gradient is a product of matrices, for which devices without that of
    ``torch.cdist`` need nothing else.
    """

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        how = "donot_use_mm_for_euclid_dist"
        return torch.cdist(x, x, compute_mode=how).square()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        x = x - x.mean(0)
        gradient = gradient + gradient.T
        return 2 * (gradient.sum(1)[:, None] * x - gradient @ x)


def _bandwidth(x, distances):
    unit = _ROUNDING * torch.finfo(x.dtype).eps
    least = unit**2 * x.square().sum(1).max()
    return torch.maximum(_median_of_pairs(distances), least)


def _median_of_pairs(distances):
    """Return the median over pairs of different rows; one where they are all equal."""
    rows, columns = torch.triu_indices(*distances.shape, offset=1)
    pairs = distances[rows.to(distances.device), columns.to(distances.device)]
    pairs = pairs[pairs > 0]
    return pairs.median() if len(pairs) else distances.new_ones(())


def _discrepancy(kernel, n):
    """Squared distance of two means in the kernel's space, n rows of the first."""
    within = kernel[:n, :n].mean() + kernel[n:, n:].mean()
    return (within - 2 * kernel[:n, n:].mean()).clamp_min(0)  # rounding can be below


def mmd_loss(source, target):
    """Compute the squared maximum mean discrepancy of two sets of features.

    The biased estimate, which is never negative, and zero for equal sets. The kernel is
    a mean of five Gaussians whose widths follow the median distance.

    Parameters
    ----------
    source : torch.Tensor of shape (n, d)
    target : torch.Tensor of shape (m, d)

    Returns
    -------
    torch.Tensor of shape ()
        In [0, 2).

    See Also
    --------
    joint_mmd_loss : The same for features and predictions together.

    References
    ----------
    M. Long et al. (2015). Learning Transferable Features with Deep Adaptation Networks.
    https://arxiv.org/abs/1502.02791

    Examples
    --------
    >>> import torch
    >>> from sktransfer.adaptation import mmd_loss
    >>> x = torch.arange(6.0).reshape(3, 2)
    >>> mmd_loss(x, x).item()
    0.0
    >>> mmd_loss(x, x + 5).item() > 0.1
    True
    """
    return _discrepancy(gaussian_kernels(torch.cat([source, target])), len(source))


def joint_mmd_loss(source, target, bandwidths=None):
    """Compute the squared discrepancy of the joint distributions of several layers.

    The kernel of a sample is the product of the kernels of its layers.

    Parameters
    ----------
    source : sequence of torch.Tensor of shape (n, d_i)
        Layers, such as features and probabilities.
    target : sequence of torch.Tensor of shape (m, d_i)
    bandwidths : sequence of float or None, default=None
        For each layer the bandwidth of a single kernel, ``exp(-d² / bandwidth)``. None
        is the five of :func:`mmd_loss`, whose widths follow the median distance; by
        default all layers have these. Probabilities need a number: most of confident
        predictions are equal but for rounding, and so would the median be.

    Returns
    -------
    torch.Tensor of shape ()
        In [0, 2). Of a single layer, that of :func:`mmd_loss`.

    References
    ----------
    M. Long et al. (2017). Deep Transfer Learning with Joint Adaptation Networks.
    https://arxiv.org/abs/1605.06636
    """
    layers = [torch.cat(pair) for pair in zip(source, target, strict=True)]
    bandwidths = [None] * len(layers) if bandwidths is None else bandwidths
    kernels = [_kernel(*pair) for pair in zip(layers, bandwidths, strict=True)]
    return _discrepancy(torch.stack(kernels).prod(0), len(source[0]))


def _kernel(layer, bandwidth):
    widths = _WIDTHS if bandwidth is None else (1.0,)
    return gaussian_kernels(layer, widths, bandwidth)
