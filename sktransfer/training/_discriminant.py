"""Leave-one-out linear discriminant analysis in closed form, with a single fit."""

import numpy as np
from scipy.linalg import cholesky, solve_triangular, svd

_LEAST = 1e-12  # share of the variance that regularises the diagonal
_N_FOLDS = 5
_STRANGE = 0.75  # share of the samples, of views that are recognised


def in_span(features: np.ndarray) -> np.ndarray:
    """Centre features, and express them in an orthonormal basis of their span.

    The result has shape (n_samples, k), with k <= n_samples and the same distances.
    """
    F = features - features.mean(axis=0)
    if F.shape[1] <= len(F):
        return F
    U, s, _ = svd(F, full_matrices=False)
    return U * s


def shrunk_covariance(
    residuals: np.ndarray, n_features: int, total: float = 0.0
) -> tuple[np.ndarray, float]:
    """Return the covariance (k, k) with Ledoit-Wolf shrinkage, and the shrinkage.

    Residuals (n_samples, k) are deviations from the mean, in the span of `n_features`
    features. A trillionth of their variance, or of `total` if that is larger, is added
    to the diagonal.
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


def whiten(vectors: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Transform vectors (n, k) so that their norms are Mahalanobis norms."""
    return solve_triangular(cholesky(covariance, lower=True), vectors.T, lower=True).T


def class_means(
    features: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class means (n_classes, d) and the number of samples per class."""
    indicator = np.eye(codes.max() + 1)[codes]
    counts = indicator.sum(axis=0)
    return indicator.T @ features / counts[:, None], counts


def lda_predictions(features: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Predict each sample by linear discriminant analysis fitted to all others.

    Codes (n_samples,) are classes in [0, n_classes), and each class has a sample. See
    :func:`sktransfer.advice.lda_score`.
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
    """Return the squared distances of samples, when left out, to means (n, n_classes).

    Z and M are whitened samples and means. Let r be the deviation of a sample from the
    mean of its class of m samples. Without the sample, that mean moves by -r / (m - 1),
    and the covariance changes by -s r r' (Sherman-Morrison formula).
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


def predict_views(
    features: np.ndarray, of_views: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    """Predict samples, and a view of each, by an analysis of samples of other folds.

    Features have shape (n_samples, d), and codes (n_samples,) are classes in [0,
    n_classes). The result has shape (2, n_samples): codes of the samples and of their
    views.
    """
    n_classes = codes.max() + 1
    folds = np.empty(len(codes), dtype=int)
    folds[np.argsort(codes, kind="stable")] = np.arange(len(codes)) % _N_FOLDS
    found = np.empty((2, len(codes)), dtype=int)
    for fold in range(_N_FOLDS):
        held = folds == fold
        train = features[~held].astype(np.float64), codes[~held]
        for i, F in enumerate((features, of_views)):
            others = F[held].astype(np.float64)
            found[i, held] = _discriminate(*train, others, n_classes)
    return found


def exchanged_classes(found: np.ndarray, codes: np.ndarray) -> tuple[int, int] | None:
    """Return two classes whose views are taken for each other, or None.

    Most samples of both classes are taken for what they are, and most of their views
    for the other class, as with the mirror images of arrows to the left and to the
    right. `found` is what `predict_views` returns for the `codes`.
    """
    n_classes = codes.max() + 1
    counts = np.zeros((2, n_classes, n_classes), dtype=int)
    for i in range(2):
        np.add.at(counts[i], (codes, found[i]), 1)
    of_samples, views = 2 * counts > counts.sum(axis=2, keepdims=True)
    known = np.diag(of_samples)
    pairs = np.argwhere(views & views.T & np.outer(known, known))
    apart = pairs[pairs[:, 0] < pairs[:, 1]]
    return (int(apart[0][0]), int(apart[0][1])) if len(apart) else None


def are_strange(found: np.ndarray, codes: np.ndarray) -> bool:
    """Return whether views are recognised much less often than the samples.

    That is by a quarter, and by two standard errors of the difference, as with mirrored
    digits and a network that has seen none. `found` is what `predict_views` returns
    for the `codes`.
    """
    of_samples, of_views = found == codes
    lost, gained = (of_samples & ~of_views).sum(), (of_views & ~of_samples).sum()
    is_clear = lost - gained > 2 * np.sqrt(lost + gained)
    return bool(is_clear and of_views.sum() < _STRANGE * of_samples.sum())


def _discriminate(features, codes, others, n_classes):
    """Predict other samples by an analysis of some samples; classes may be absent."""
    centre = features.mean(axis=0)
    axes = svd(features - centre, full_matrices=False)[2]  # of the span
    F, Z = (features - centre) @ axes.T, (others - centre) @ axes.T
    present, codes = np.unique(codes, return_inverse=True)
    means, counts = class_means(F, codes)
    total = np.square(F).sum() / F.size
    covariance, _ = shrunk_covariance(F - means[codes], features.shape[1], total)
    Z, M = whiten(Z, covariance), whiten(means, covariance)
    scores = np.log(counts) + Z @ M.T - np.square(M).sum(axis=1) / 2
    return present[scores.argmax(axis=1)]
