"""Methods that align the features of two domains: CORAL, MMD and joint MMD."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.nn import functional as F

from sktransfer.training import AdaptationMethod

_WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
_PROBABILITY_BANDWIDTH = 1.68  # as in the code of Long et al. (2017)
_ROUNDING = 16  # units in the last place by which equal features may differ


class CORAL(AdaptationMethod):
    """Correlation alignment: make the covariances of the features equal.

    The squared distance of the covariances is divided by the sum of their squared
    norms, so that it lies in [0, 1]. Without that, it would be smallest for features
    that are all zero, and would vanish in many dimensions.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the objective in the loss.

    See Also
    --------
    MMD : Compares the whole distributions instead of the covariances.

    References
    ----------
    B. Sun and K. Saenko (2016). Deep CORAL: Correlation Alignment for Deep Domain
    Adaptation. https://arxiv.org/abs/1607.01719

    Examples
    --------
    >>> from sktransfer.adaptation import CORAL, DomainAdaptedClassifier
    >>> DomainAdaptedClassifier(method=CORAL(weight=0.5))
    DomainAdaptedClassifier(method=CORAL(weight=0.5))
    """

    name = "coral"
    needs_stages = True

    def make_objective(
        self, n_features: int, n_outputs: int, is_multilabel: bool, seed: int
    ) -> Callable:
        """Return the relative distance of the covariances."""
        return _relative_coral


class MMD(AdaptationMethod):
    """Maximum mean discrepancy: make the kernel means of the features equal.

    The kernel is the mean of five Gaussians whose widths follow the median distance.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the objective in the loss.

    See Also
    --------
    JMMD : Compares features and predictions together.
    mmd_test : Tests whether two sets of features differ.

    References
    ----------
    M. Long et al. (2015). Learning Transferable Features with Deep Adaptation Networks.
    https://arxiv.org/abs/1502.02791

    A. Gretton et al. (2012). A Kernel Two-Sample Test.
    https://jmlr.org/papers/v13/gretton12a.html

    Examples
    --------
    >>> from sktransfer.adaptation import MMD, DomainAdaptedClassifier
    >>> DomainAdaptedClassifier(method=MMD(weight=0.5))
    DomainAdaptedClassifier(method=MMD(weight=0.5))
    """

    name = "mmd"
    needs_stages = True

    def make_objective(
        self, n_features: int, n_outputs: int, is_multilabel: bool, seed: int
    ) -> Callable:
        """Return the squared MMD of the features."""
        return _mmd


class JMMD(AdaptationMethod):
    """Joint MMD: make the joint kernel means of features and predictions equal.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the objective in the loss.

    See Also
    --------
    MMD : Compares features alone.

    References
    ----------
    M. Long et al. (2017). Deep Transfer Learning with Joint Adaptation Networks.
    https://arxiv.org/abs/1605.06636

    Examples
    --------
    >>> from sktransfer.adaptation import JMMD, DomainAdaptedClassifier
    >>> DomainAdaptedClassifier(method=JMMD(weight=0.5))
    DomainAdaptedClassifier(method=JMMD(weight=0.5))
    """

    name = "jmmd"
    needs_stages = True
    needs_labels = True

    def make_objective(
        self, n_features: int, n_outputs: int, is_multilabel: bool, seed: int
    ) -> Callable:
        """Return the squared joint MMD of features and probabilities."""
        to_probabilities = torch.sigmoid if is_multilabel else partial(F.softmax, dim=1)
        return partial(_joint_mmd, to_probabilities)


def _relative_coral(source, target, progress):
    zero = torch.zeros_like(source.features[:1])
    whole = sum(coral_loss(domain.features, zero) for domain in (source, target))
    return coral_loss(source.features, target.features) / whole.clamp_min(1e-12)


def _mmd(source, target, progress):
    return mmd_loss(source.features, target.features)


def _joint_mmd(to_probabilities, source, target, progress):
    layers = ((s.features, to_probabilities(s.scores)) for s in (source, target))
    return joint_mmd_loss(*layers, bandwidths=(None, _PROBABILITY_BANDWIDTH))


def coral_loss(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the squared Frobenius distance of two covariances, divided by 4 d²."""
    difference = _covariance(source) - _covariance(target)  # (d, d)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(features):
    centred = features - features.mean(0)
    return centred.T @ centred / max(1, len(features) - 1)


def mmd_loss(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the biased estimate of the squared MMD of features (n, d), in [0, 2)."""
    return joint_mmd_loss([source], [target])


def joint_mmd_loss(
    source: Sequence[torch.Tensor],
    target: Sequence[torch.Tensor],
    bandwidths: Sequence[float | None] | None = None,
) -> torch.Tensor:
    """Compute the squared MMD of the joint distributions of several layers, in [0, 2).

    Layers, such as features and probabilities, have shapes (n, d_i) and (m, d_i). The
    kernel of two samples is the product of the kernels of their layers. A layer has the
    kernel ``exp(-d² / bandwidth)`` or, where its bandwidth is None, the mean of five
    such kernels whose bandwidths are multiples of the median squared distance.
    Probabilities need a fixed bandwidth, since most confident predictions differ by
    rounding alone, which the median distance would then measure.
    """
    layers = [torch.cat(pair) for pair in zip(source, target, strict=True)]
    bandwidths = [None] * len(layers) if bandwidths is None else bandwidths
    pairs = zip(layers, bandwidths, strict=True)
    kernel = torch.stack([gaussian_kernels(*pair) for pair in pairs]).prod(0)
    n = len(source[0])
    within = kernel[:n, :n].mean() + kernel[n:, n:].mean()
    # Rounding can make the estimate negative.
    return (within - 2 * kernel[:n, n:].mean()).clamp_min(0)


def gaussian_kernels(x: torch.Tensor, bandwidth: float | None = None) -> torch.Tensor:
    """Return Gaussian kernels between all pairs of rows of x, as (n, n)."""
    distances = _SquaredDistances.apply(x)  # (n, n)
    if bandwidth is not None:
        return torch.exp(-distances / bandwidth)
    bandwidth = _bandwidth(x.detach(), distances.detach())
    kernels = [torch.exp(-distances / (width * bandwidth)) for width in _WIDTHS]
    return sum(kernels[1:], kernels[0]) / len(kernels)


class _SquaredDistances(torch.autograd.Function):
    """Squared distances between all rows, accurate for small ones.

    The gradient is computed as a product of matrices, since some devices lack the
    gradient of ``torch.cdist``.
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
    """Return the median squared distance of distinct rows, or 1 if there are none.

    The result is at least the squared distance of rows that differ by rounding alone.
    """
    unit = _ROUNDING * torch.finfo(x.dtype).eps
    least = unit**2 * x.square().sum(1).max()
    rows, columns = torch.triu_indices(*distances.shape, offset=1)
    pairs = distances[rows.to(distances.device), columns.to(distances.device)]
    pairs = pairs[pairs > 0]
    median = pairs.median() if len(pairs) else distances.new_ones(())
    return torch.maximum(median, least)
