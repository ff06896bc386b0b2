"""Linear discriminant analysis that leaves each sample out, in closed form."""

import numpy as np
from scipy.linalg import cholesky, solve_triangular, svd

__all__ = ["class_means", "in_span", "lda_predictions", "shrunk_covariance", "whiten"]

_LEAST = 1e-12  # share of a variance that is added where nothing was shrunk


def in_span(features):
    """Centre features, and turn them so that the last axes are zero and left out.

    Parameters
    ----------
    features : ndarray of shape (n_samples, d)

    Returns
    -------
    ndarray of shape (n_samples, k)
        With the same distances, and k at most n_samples.
    """
    F = features - features.mean(axis=0)
    if F.shape[1] <= len(F):
        return F
    U, s, _ = svd(F, full_matrices=False)
    return U * s


def shrunk_covariance(residuals, n_features, total=0.0):
    """Return a covariance as Ledoit and Wolf shrink it, and the shrinkage.

    Parameters
    ----------
    residuals : ndarray of shape (n_samples, k)
        Deviations from the mean in their span.
    n_features : int
        Number of features, of which k span the residuals.
    total : float, default=0.0
        Variance of the features, of which a trillionth is the least that is left.

    Returns
    -------
    covariance : ndarray of shape (k, k)
    shrinkage : float
        In [0, 1].
    """
    n, k = residuals.shape
    S = residuals.T @ residuals / n
    variance = np.trace(S) / n_features
    squares = np.square(S).sum()
    away = squares - n_features * variance**2
    noise = (np.square(np.square(residuals).sum(axis=1)).mean() - squares) / n
    shrinkage = min(noise / away, 1.0) if away > 0 else 0.0
    least = _LEAST * max(variance, total) + np.finfo(float).tiny  # if nothing shrank
    S *= 1 - shrinkage
    S[np.diag_indices(k)] += shrinkage * variance + least
    return S, shrinkage


def whiten(vectors, covariance):
    """Return vectors whose squared lengths are those in the metric of a covariance.

    Parameters
    ----------
    vectors : ndarray of shape (n, k)
    covariance : ndarray of shape (k, k)

    Returns
    -------
    ndarray of shape (n, k)
    """
    return solve_triangular(cholesky(covariance, lower=True), vectors.T, lower=True).T


def class_means(features, codes):
    """Return the means of classes (n_classes, d), and how many samples each has.

    Parameters
    ----------
    features : ndarray of shape (n_samples, d)
    codes : ndarray of shape (n_samples,)
    """
    indicator = np.eye(codes.max() + 1)[codes]
    counts = indicator.sum(axis=0)
    return indicator.T @ features / counts[:, None], counts


def lda_predictions(features, codes):
    """Predict each sample by linear discriminant analysis of all others.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
    codes : ndarray of shape (n_samples,)
        Of the classes, from 0; each has a sample.

    Returns
    -------
    ndarray of shape (n_samples,)
        Codes. See :func:`sktransfer.advice.lda_score`.
    """
    n_features, F = features.shape[1], in_span(features.astype(np.float64))
    means, counts = class_means(F, codes)
    total = np.square(F).sum() / len(F) / n_features
    covariance, shrinkage = shrunk_covariance(F - means[codes], n_features, total)
    Z, M = whiten(F, covariance), whiten(means, covariance)
    distances = _distances_without(Z, M, codes, counts, shrinkage)
    left = np.tile(counts, (len(codes), 1))
    left[np.arange(len(codes)), codes] -= 1
    with np.errstate(divide="ignore"):
        return (np.log(left) - distances / 2).argmax(axis=1)


def _distances_without(Z, M, codes, counts, shrinkage):
    """Return squared distances to the means, each sample left out (n, n_classes).

    Z and M are samples and means in the metric of all samples. Without sample i, which
    lies r off the mean of its class of m, that mean is r / (m - 1) lower, and the
    covariance has s r r' less (Sherman and Morrison).
    """
    rows = np.arange(len(Z))
    r = Z - M[codes]
    norms = np.square(Z).sum(axis=1)[:, None] + np.square(M).sum(axis=1)
    plain = norms - 2 * Z @ M.T  # |z - m|²
    across = (r * Z).sum(axis=1)[:, None] - r @ M.T  # r' (z - m)
    own = np.square(r).sum(axis=1)  # r' r
    m = counts[codes]
    grown = m / np.maximum(m - 1, 0.5)
    s = (1 - shrinkage) / len(Z) * grown
    rest = np.maximum(1 - s * own, 1e-10)
    distances = plain + (s / rest)[:, None] * np.square(across)
    distances[rows, codes] = np.square(grown) * own / rest
    return distances
