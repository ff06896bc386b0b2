"""Leave-one-out linear discriminant analysis in closed form.

scikit-learn would fit one model per sample.
"""

import numpy as np
from scipy.linalg import cholesky, solve_triangular, svd

__all__ = ["class_means", "in_span", "lda_predictions", "shrunk_covariance", "whiten"]

_LEAST = 1e-12  # share of the variance that is added to the diagonal


def in_span(features):
    """Centre features, and reduce them to an orthonormal basis of their span.

    Parameters
    ----------
    features : ndarray of shape (n_samples, d)

    Returns
    -------
    ndarray of shape (n_samples, k)
        With the same distances between samples, and k <= n_samples.
    """
    F = features - features.mean(axis=0)
    if F.shape[1] <= len(F):
        return F
    U, s, _ = svd(F, full_matrices=False)
    return U * s


def shrunk_covariance(residuals, n_features, total=0.0):
    """Return the covariance shrunk by Ledoit and Wolf's rule, and the shrinkage.

    Parameters
    ----------
    residuals : ndarray of shape (n_samples, k)
        Deviations from the mean in their span.
    n_features : int
        Number of features, of which k span the residuals.
    total : float, default=0.0
        Variance of the features. A trillionth of it is added to the diagonal.

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
    least = _LEAST * max(variance, total) + np.finfo(float).tiny
    S *= 1 - shrinkage
    S[np.diag_indices(k)] += shrinkage * variance + least
    return S, shrinkage


def whiten(vectors, covariance):
    """Transform vectors so that their lengths are Mahalanobis lengths.

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
    """Return the class means (n_classes, d) and the number of samples per class.

    Parameters
    ----------
    features : ndarray of shape (n_samples, d)
    codes : ndarray of shape (n_samples,)
    """
    indicator = np.eye(codes.max() + 1)[codes]
    counts = indicator.sum(axis=0)
    return indicator.T @ features / counts[:, None], counts


def lda_predictions(features, codes):
    """Predict each sample by linear discriminant analysis fitted to all others.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
    codes : ndarray of shape (n_samples,)
        Classes in [0, n_classes), each with at least one sample.

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
    """Return squared distances to the means, with each sample left out (n, n_classes).

    Z and M are whitened samples and means. Without sample i, which deviates by r from
    the mean of its class of m samples, that mean moves by -r / (m - 1), and the
    covariance changes by -s r r' (Sherman and Morrison).
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
