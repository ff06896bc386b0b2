"""Gap between two domains, measured at each stage of a network."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import clone

from sktransfer._features import PretrainedFeatureExtractor
from sktransfer.adaptation._two_samples import mmd_test, proxy_a_distance
from sktransfer.inputs import select_rows
from sktransfer.model import make_pool
from sktransfer.training import Pooling
from sktransfer.utils import spawn_seed, types


def domain_gap(
    extractor: PretrainedFeatureExtractor,
    X_source: types.Samples,
    X_target: types.Samples,
    *,
    n_permutations: int = 200,
    max_samples: int = 1000,
    random_state: types.RandomState | None = None,
) -> pd.DataFrame:
    """Measure how much two domains differ at each stage of a network.

    No labels are needed. The activations of all stages are computed in one pass through
    the network, and are stored.

    Parameters
    ----------
    extractor : PretrainedFeatureExtractor
        Extractor, fitted or not, whose backbone, pooling and other parameters except
        ``stage`` are used. It is not changed.
    X_source, X_target : array-like of n_samples
        Samples of the two domains, as the extractor takes them.
    n_permutations : int, default=200
        Number of permutations of the test, see :func:`mmd_test`.
    max_samples : int, default=1000
        Maximum number of samples per domain, drawn at random. Time and memory grow with
        the square of this number.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws of samples, folds and permutations.

    Returns
    -------
    pandas.DataFrame
        One row per stage, in their order, indexed by ``stage``:

        - ``n_features``: number of features
        - ``a_distance``: about 0 if a linear classifier cannot separate the domains,
          2 if it makes no error; see :func:`proxy_a_distance`
        - ``mmd2``: squared maximum mean discrepancy; see :func:`mmd_test`
        - ``p_value``: p-value of ``mmd2``; see :func:`mmd_test`

    Raises
    ------
    TypeError
        If `extractor` is not a PretrainedFeatureExtractor.
    ValueError
        If a domain has fewer than 2 samples, some of its features are not finite, or a
        parameter is out of range.

    See Also
    --------
    sktransfer.inspection.GapDisplay : Draws the result.

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
    if not isinstance(extractor, PretrainedFeatureExtractor):
        raise TypeError(
            "`extractor` must be a PretrainedFeatureExtractor. Got "
            f"{type(extractor).__name__}."
        )
    if not isinstance(max_samples, Integral) or max_samples < 2:
        raise ValueError(
            f"`max_samples` must be an int of at least 2. Got {max_samples!r}."
        )
    rng = np.random.RandomState(spawn_seed(random_state))
    X_source, X_target = (_some(X, max_samples, rng) for X in (X_source, X_target))
    extractor = _at_all_stages(extractor, X_source)
    Z_source, Z_target = (extractor.transform(X) for X in (X_source, X_target))
    ends = np.cumsum(_widths(extractor))[:-1]
    parts = zip(*(np.split(Z, ends, axis=1) for Z in (Z_source, Z_target)), strict=True)
    rows = [_compare(*pair, n_permutations, rng) for pair in parts]
    return pd.DataFrame(rows, index=pd.Index(extractor.stages_, name="stage"))


def _some(X, n_most, rng):
    """Return at most `n_most` samples of X, drawn at random."""
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    if n_samples <= n_most:
        return X
    return select_rows(X, np.sort(rng.choice(n_samples, n_most, replace=False)))


def _at_all_stages(extractor, X):
    """Fit an extractor of all stages that has the weights of the given extractor."""
    twin = clone(extractor).set_output(transform="default")
    fitted = extractor if hasattr(extractor, "model_") else twin.fit(X)
    backbone, value_range = fitted.model_.backbone, fitted.model_.value_range
    if value_range is not None:
        twin.set_params(value_range=value_range)
    names = list(backbone.stage_names)
    return twin.set_params(backbone=backbone, weights="default", stage=names).fit(X)


def _widths(extractor):
    """Return the number of features per stage."""
    backbone, pooling = extractor.model_.backbone, Pooling.of(extractor.pooling)
    return [
        make_pool(backbone, name, pooling).n_features(backbone.activation_shape(name))
        for name in extractor.stages_
    ]


def _compare(Z_source, Z_target, n_permutations, rng):
    distance = proxy_a_distance(Z_source, Z_target, random_state=rng)
    test = mmd_test(Z_source, Z_target, n_permutations=n_permutations, random_state=rng)
    return {
        "n_features": Z_source.shape[1],
        "a_distance": distance,
        "mmd2": test.statistic,
        "p_value": test.pvalue,
    }
