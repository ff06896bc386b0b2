"""A share of the samples to validate on."""

import numpy as np

__all__ = ["hold_out"]


def hold_out(codes, fraction, seed):
    """Choose samples to validate on; no class loses its last sample.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Classes, or zeros where there are none.
    fraction : float
        Share of all samples, rounded, and one at least. Each class gives its share of
        them, down to the sample; those with the largest remainders give one more.
    seed : int

    Returns
    -------
    ndarray of shape (n_held,)
        Indices in ascending order.

    Raises
    ------
    ValueError
        If every class has but one sample.
    """
    rng = np.random.default_rng(seed)
    order = [rng.permutation(np.flatnonzero(codes == c)) for c in np.unique(codes)]
    spare = np.array([len(o) - 1 for o in order])
    if not spare.any():
        raise ValueError(
            "`early_stopping` needs a class with two samples to hold one out. Give "
            "`X_val` and `y_val` to `fit`, or set `early_stopping=False`."
        )
    exact = np.minimum(fraction * (spare + 1), spare)
    n_held = np.floor(exact).astype(int)
    n_more = max(1, round(fraction * len(codes))) - n_held.sum()
    order_of_remainders = np.argsort(n_held - exact - spare * 1e-9, kind="stable")
    can_give = [i for i in order_of_remainders if n_held[i] < spare[i]]
    n_held[can_give[: max(0, n_more)]] += 1
    return np.sort(np.concatenate([o[:n] for o, n in zip(order, n_held, strict=True)]))
