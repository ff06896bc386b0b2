"""Whether a network sees two domains as different, stage by stage."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import clone

from sktransfer._features import PretrainedFeatureExtractor
from sktransfer.adaptation._a_distance import proxy_a_distance
from sktransfer.adaptation._mmd_test import mmd_test
from sktransfer.utils import check_is_fitted, spawn_seed

__all__ = ["domain_gap"]


def domain_gap(
    extractor,
    X_source,
    X_target,
    *,
    n_permutations=200,
    max_samples=1000,
    random_state=None,
):
    """Measure at each stage of a network how different two domains look.

    No labels are needed. All stages are computed in one pass through the network, and
    kept as any other activations.

    Parameters
    ----------
    extractor : PretrainedFeatureExtractor
        Its backbone, pooling and other settings are used, fitted or not; its ``stage``
        is not. It is left as it is.
    X_source, X_target : array-like of n_samples
        Samples of the two domains, as the extractor takes them.
    n_permutations : int, default=200
        See :func:`mmd_test`.
    max_samples : int, default=1000
        How many samples of each domain are looked at, at most, drawn at random: time
        and memory grow with the square of it.
    random_state : int, RandomState instance or None, default=None
        Draws samples, folds and permutations.

    Returns
    -------
    pandas.DataFrame
        One row a stage, in their order, named ``stage``:

        - ``n_features``: their number
        - ``a_distance``: about 0 if a linear classifier cannot tell the domains apart,
          2 if it never errs; see :func:`proxy_a_distance`
        - ``mmd2``: the squared maximum mean discrepancy; see :func:`mmd_test`
        - ``p_value``: how likely one as large is by chance

    Raises
    ------
    TypeError
        If `extractor` is no PretrainedFeatureExtractor.
    ValueError
        If a domain has fewer than 2 samples, some of its features are not finite, or a
        parameter is out of range.

    See Also
    --------
    GapDisplay : Draws the result.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import PretrainedFeatureExtractor
    >>> from sktransfer.adaptation import domain_gap
    >>> X = load_digits().data[:80]
    >>> extractor = PretrainedFeatureExtractor(
    ...     image_shape=(8, 8), value_range=(0, 16), image_size=32
    ... )
    >>> gaps = domain_gap(extractor, X[:40], 16 - X[40:], random_state=0)
    >>> float(gaps.loc["blocks.2", "a_distance"])
    2.0
    """
    _check(extractor, max_samples)
    extractor = _at_all_stages(extractor, X_source)
    rng = np.random.RandomState(spawn_seed(random_state))
    Z_source, Z_target = (
        extractor._features_of(_some_samples(extractor, X, max_samples, rng))
        for X in (X_source, X_target)
    )
    ends = np.cumsum(_widths(extractor))[:-1]
    parts = zip(*(np.split(Z, ends, axis=1) for Z in (Z_source, Z_target)), strict=True)
    rows = [_compare(*pair, n_permutations, rng) for pair in parts]
    return pd.DataFrame(rows, index=pd.Index(extractor.stages_, name="stage"))


def _check(extractor, max_samples):
    if not isinstance(extractor, PretrainedFeatureExtractor):
        raise TypeError(
            "`extractor` must be a PretrainedFeatureExtractor. Got "
            f"{type(extractor).__name__}."
        )
    if not isinstance(max_samples, Integral) or max_samples < 2:
        raise ValueError(
            f"`max_samples` must be an int of at least 2. Got {max_samples!r}."
        )


def _at_all_stages(extractor, X):
    """Return an extractor of every coarse stage, with the weights of the given one."""
    if not extractor.__sklearn_is_fitted__():
        extractor = clone(extractor).fit(X)
    check_is_fitted(extractor)
    twin = object.__new__(type(extractor))
    names = list(extractor.backbone_.stage_names)
    vars(twin).update(vars(extractor), stage=names, stages_=names)
    return twin


def _widths(extractor):
    pools, shape_of = extractor._pools(), extractor.backbone_.activation_shape
    return [pools[name].n_features(shape_of(name)) for name in extractor.stages_]


def _some_samples(extractor, X, n_most, rng):
    samples = extractor._samples(X)
    if len(samples) <= n_most:
        return samples
    return samples.take(np.sort(rng.choice(len(samples), n_most, replace=False)))


def _compare(Z_source, Z_target, n_permutations, rng):
    distance = proxy_a_distance(Z_source, Z_target, random_state=rng)
    test = mmd_test(Z_source, Z_target, n_permutations=n_permutations, random_state=rng)
    return {
        "n_features": Z_source.shape[1],
        "a_distance": distance,
        "mmd2": test.statistic,
        "p_value": test.pvalue,
    }
