"""Whether two sets of features may come from one distribution."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from sktransfer.adaptation._a_distance import check_features
from sktransfer.utils import spawn_seed

__all__ = ["MMDResult", "mmd_test"]


class MMDResult(NamedTuple):
    """What :func:`mmd_test` returns.

    Attributes
    ----------
    statistic : float
        The unbiased estimate of the squared maximum mean discrepancy; 0 in the mean if
        both distributions are the same, and by chance below it.
    pvalue : float
        The share of permutations, and the samples as they are, in which it is at least
        as large.
    """

    statistic: float
    pvalue: float


def mmd_test(Z_source, Z_target, *, n_permutations=200, random_state=None):
    """Test by the maximum mean discrepancy whether two domains differ.

    The kernel is Gaussian, exp(-d² / (2 m²)), where m is the median of the
    distances between all samples.

    Parameters
    ----------
    Z_source, Z_target : array-like of shape (n, n_features)
        Features of the two domains.
    n_permutations : int, default=200
        How often the samples are dealt anew to two domains. The p-value is at least
        1 / (n_permutations + 1).
    random_state : int, RandomState instance or None, default=None
        Deals.

    Returns
    -------
    MMDResult
        With ``statistic`` and ``pvalue``.

    Raises
    ------
    ValueError
        If the features cannot be compared, or `n_permutations` is no positive int.

    See Also
    --------
    proxy_a_distance : Says how large a difference is.

    References
    ----------
    A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola (2012). A Kernel
    Two-Sample Test. Journal of Machine Learning Research 13.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import mmd_test
    >>> Z = np.random.RandomState(0).normal(size=(100, 3))
    >>> mmd_test(Z[:50], Z[50:] + 1, n_permutations=99, random_state=0).pvalue
    0.01
    """
    Z_source, Z_target = check_features(Z_source, Z_target)
    if not isinstance(n_permutations, Integral) or n_permutations < 1:
        raise ValueError(
            f"`n_permutations` must be an int of at least 1. Got {n_permutations!r}."
        )
    kernel = _kernel(np.concatenate([Z_source, Z_target]))
    is_source = np.arange(len(kernel)) < len(Z_source)
    rng = np.random.default_rng(spawn_seed(random_state))
    dealt = [is_source, *(rng.permutation(is_source) for _ in range(n_permutations))]
    found = _discrepancies(kernel, np.array(dealt))
    tolerance = 1e-12  # the same deal in another order is rounded otherwise
    return MMDResult(float(found[0]), float(np.mean(found >= found[0] - tolerance)))


def _kernel(Z):
    """Return the kernel between all rows, without their own with themselves."""
    squares = cdist(Z, Z, "sqeuclidean")
    median = np.median(squares[np.triu_indices_from(squares, 1)])
    if median == 0:
        median = squares.max() or 1.0  # most rows are the same
    kernel = np.exp(-squares / (2 * median))
    np.fill_diagonal(kernel, 0)
    return kernel


def _discrepancies(kernel, is_source):
    """Return the squared discrepancy of each deal, given as (n_deals, n) bools."""
    first = is_source.astype(np.float64)
    second = 1 - first
    n, m = first.sum(axis=1), second.sum(axis=1)
    to_first = first @ kernel  # (n_deals, n)
    within_first = (to_first * first).sum(axis=1)
    between = (to_first * second).sum(axis=1)
    within_second = kernel.sum() - within_first - 2 * between
    within = within_first / (n * (n - 1)) + within_second / (m * (m - 1))
    return within - 2 * between / (n * m)
