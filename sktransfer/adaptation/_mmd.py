"""Maximum mean discrepancy: two samples compared by the means of kernels."""

import torch

__all__ = ["gaussian_kernels", "joint_mmd_loss", "mmd_loss"]

# Factors on the median of the squared distances, one for each kernel.
_WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)


def gaussian_kernels(x, widths=_WIDTHS):
    """Compute the mean of several Gaussian kernels between all pairs of rows.

    Parameters
    ----------
    x : torch.Tensor of shape (n, d)
    widths : tuple of float, default=(0.125, 0.25, 0.5, 1.0, 2.0)
        Each kernel is ``exp(-d² / (width * median))``, with the median of the squared
        distances of different rows. No gradient goes through the median.

    Returns
    -------
    torch.Tensor of shape (n, n)
        In (0, 1].

    References
    ----------
    A. Gretton et al. (2012). A Kernel Two-Sample Test.
    https://jmlr.org/papers/v13/gretton12a.html
    """
    distances = _squared_distances(x)  # (n, n)
    scale = _median_of_pairs(distances.detach())
    return sum(torch.exp(-distances / (w * scale)) for w in widths) / len(widths)


def _squared_distances(x):
    # Centred, so that features with a large mean are not cancelled away.
    x = x - x.mean(0).detach()
    norms = x.square().sum(1)
    distances = norms[:, None] + norms[None] - 2 * x @ x.T
    distances = distances.clamp_min(0)
    return distances * (1 - torch.eye(len(x), dtype=x.dtype, device=x.device))


def _median_of_pairs(distances):
    """Return the median over pairs of different rows; one where they are all equal."""
    rows, columns = torch.triu_indices(*distances.shape, offset=1)
    pairs = distances[rows.to(distances.device), columns.to(distances.device)]
    pairs = pairs[pairs > 0]
    return pairs.median() if len(pairs) else distances.new_ones(())


def _discrepancy(kernel, n):
    """Squared distance of two means in the kernel's space, n rows of the first."""
    within = kernel[:n, :n].mean() + kernel[n:, n:].mean()
    return within - 2 * kernel[:n, n:].mean()


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


def joint_mmd_loss(source, target):
    """Compute the squared discrepancy of the joint distributions of several layers.

    The kernel of a sample is the product of the kernels of its layers.

    Parameters
    ----------
    source : sequence of torch.Tensor of shape (n, d_i)
        Layers, such as features and probabilities.
    target : sequence of torch.Tensor of shape (m, d_i)

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
    kernel = torch.stack([gaussian_kernels(layer) for layer in layers]).prod(0)
    return _discrepancy(kernel, len(source[0]))
