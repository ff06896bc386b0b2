"""Centroids: move a linear head to the classes' centroids in the target domain."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from sktransfer.training import (
    AdaptationContext,
    AdaptationMethod,
    AdaptationResult,
    last_layer,
)

Array = NDArray[np.float64]
# On development data, by features of the pretrained network, the gap was at most 1.9
# in 52 pairs without a gap, and at least 8.4 in 27 pairs with one.
MIN_GAP = 3.0
_SCALE = 10.0  # of cosines, when they are read as scores
_N_SHIFTS, _N_LABELLINGS = 6, 5  # rounds, after which little changes
_ABSENT = 1e-6  # samples of a class


class Centroids(AdaptationMethod):
    """Move the features of the target, and the head to centroids of its classes.

    First it is tested whether the domains differ. The mean of the features differs
    between two domains by sampling, by other shares of the classes, and by a shift of
    the features themselves. The first has a known size. The second lies in the space
    that the means of the classes span, and is left out. If the square of what remains
    is not `min_gap` times as large as sampling explains, nothing is changed, as
    adaptation would only add noise.

    Otherwise three things are estimated in turn: the shift between the features of the
    domains, given the shares of the classes in the target; the centroid of each class
    in the target, by cosines as in SHOT, beginning with the classes that the head
    predicts after the shift, and with some samples' worth of the centroid of the
    source; and the shares of the classes. The scores are then the mean of those of the
    head after the shift and the scaled similarity to the centroids. All of it is linear
    in the features and becomes part of the weights of the head.

    Nothing is trained and no stage is changed, so that it works with any `freeze`. Only
    moments of the source are kept: it adapts without the source, and starts from the
    source each time.

    Parameters
    ----------
    min_gap : float, default=3.0
        Least ratio between the squared shift of the features and what sampling
        explains. 0 always adapts.
    prior : float, default=2.0
        Number of target samples that the source's centroid of a class counts as.

    Notes
    -----
    ``adaptation_`` of the fitted meta-estimator holds ``adapts``, the decision;
    ``gap``, the ratio that is compared with `min_gap`; and ``class_shares``, the
    estimated shares of the classes in the target, or None if nothing was adapted. The
    gap is 0 if the features are not more than the classes, as a shift cannot be told
    from other shares of the classes then. `weight` has no effect.

    See Also
    --------
    SHOT : Trains stages towards such centroids.
    AdaBN : Aligns every channel of the trained stages instead.

    References
    ----------
    J. Liang et al. (2020). Do We Really Need to Access the Source Data? Source
    Hypothesis Transfer for Unsupervised Domain Adaptation.
    https://arxiv.org/abs/2002.08546

    B. Sun, J. Feng and K. Saenko (2016). Return of Frustratingly Easy Domain
    Adaptation. https://arxiv.org/abs/1511.05547

    M. Saerens, P. Latinne and C. Decaestecker (2002). Adjusting the Outputs of a
    Classifier to New a Priori Probabilities. Neural Computation 14(1).

    Examples
    --------
    >>> from sktransfer.adaptation import Centroids, DomainAdaptedClassifier
    >>> DomainAdaptedClassifier(method=Centroids(prior=1.0))
    DomainAdaptedClassifier(method=Centroids(prior=1.0))
    """

    name = "centroids"
    needs_source = False
    needs_classes = True

    def __init__(self, *, min_gap: float = MIN_GAP, prior: float = 2.0):
        super().__init__()
        self.min_gap = min_gap
        self.prior = prior

    def before_training(self, context: AdaptationContext) -> None:
        """Raise if a parameter is out of range, or the head is not linear."""
        for name in ("min_gap", "prior"):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"`{name}` must be at least 0. Got {value!r}.")
        head = context.recipe.head
        is_linear = isinstance(head, torch.nn.Linear) and head.bias is not None
        if head != "linear" and not is_linear:
            raise ValueError(
                "`method='centroids'` changes weights and biases of a linear head. Got "
                f"`head={head!r}`: set `head='linear'`, or take another method."
            )

    def after_training(self, context: AdaptationContext) -> AdaptationResult:
        """Measure the source, if it is given, and move the head to the target."""
        network, moments = context.network, context.state and context.state["source"]
        layer = last_layer(network)
        if context.source_seen is not None:
            views = [
                network.features(view, context.batch_size)
                for view in context.source_seen
            ]
            moments = measure_source(torch.cat(views), layer, len(views))
        if moments is None:
            raise ValueError(
                "`method='centroids'` needs the moments of the features of the source, "
                "which are measured in `fit` with that method. Fit again."
            )
        if context.target is None:
            return AdaptationResult({"source": moments, "found": None})
        features = network.features(context.target, context.batch_size)
        head, found = adapt_head(
            moments, features.double().numpy(), min_gap=self.min_gap, prior=self.prior
        )
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(head.weight))
            layer.bias.copy_(torch.from_numpy(head.bias))
        return AdaptationResult({"source": moments, "found": found})


class LinearHead(NamedTuple):
    """Weights (k, d) and biases (k,) of k classes."""

    weight: Array
    bias: Array

    def __call__(self, features: Array) -> Array:
        """Return scores (n, k) of features (n, d)."""
        return features @ self.weight.T + self.bias


def measure_source(
    features: torch.Tensor, layer: torch.nn.Linear, n_views: int = 1
) -> dict:
    """Measure features (n, d) of the source, with the probabilities of its head.

    Returns ``weight`` (k, d) and ``bias`` (k,) of the head, the ``means`` (k, d) and
    ``shares`` (k,) of the classes, the number ``n_samples``, and ``variance``, the
    summed variance of the features within the classes and outside of the space that
    their means span. There are `n_views` rows of each sample.
    """
    parts = (layer.weight, layer.bias)
    head = LinearHead(*(part.detach().cpu().double().numpy() for part in parts))
    X = features.double().numpy()
    P = softmax(head(X), axis=1)  # (n, k)
    return {"weight": head.weight, "bias": head.bias, **measure_classes(X, P, n_views)}


def measure_classes(X: Array, P: Array, n_views: int = 1) -> dict:
    """Measure features (n, d) of the source, with probabilities (n, k) of the classes.

    Returns all but the head of what :func:`measure_source` does.
    """
    means = P.T @ X / np.maximum(P.sum(axis=0), 1e-9)[:, None]
    Z, centres = (_outside(means, P.mean(axis=0), A) for A in (X, means))
    return {
        "means": means,
        "shares": P.mean(axis=0),
        "n_samples": len(X) / n_views,
        "variance": (P * _squared_distances(Z, centres)).sum() / len(X),
    }


def adapt_head(
    source: dict, X: Array, *, min_gap: float = MIN_GAP, prior: float = 2.0
) -> tuple[LinearHead, dict]:
    """Return the head for a target with features X (n, d), and what was found.

    ``source`` comes from :func:`measure_source`.
    """
    head, gap = LinearHead(source["weight"], source["bias"]), measure_gap(source, X)
    if gap < min_gap:
        return head, {"adapts": False, "gap": gap, "class_shares": None}
    # A class without samples has no mean, and remains one that is not predicted.
    there = source["shares"] * source["n_samples"] > _ABSENT
    given = LinearHead(head.weight[there], head.bias[there])
    found = _move(given, source["means"][there], source["shares"][there], X, prior)
    weight, bias, shares = head.weight / 2, head.bias / 2, np.zeros(len(there))
    weight[there], bias[there], shares[there] = found
    found = {"adapts": True, "gap": gap, "class_shares": shares}
    return LinearHead(weight, bias), found


def measure_gap(source: dict, X: Array) -> float:
    """Return the ratio of the squared shift of features (n, d) to that by sampling.

    Neither includes the space that the means of the source's classes span.
    """
    means, shares = source["means"], source["shares"]
    if len(means) > X.shape[1]:
        return 0.0
    Z = _outside(means, shares, X)
    shift = Z.mean(axis=0) - _outside(means, shares, shares @ means)
    # Few samples, or repeated ones, vary less than those to come.
    variance = max(Z.var(axis=0).sum(), source["variance"])
    by_sampling = source["variance"] / source["n_samples"] + variance / len(X)
    return float(shift @ shift / by_sampling) if by_sampling > 0 else 0.0


def class_gap(X: Array, y: Any, sample_weight: Any, X_target: Array) -> float:
    """Return the gap of :func:`measure_gap` between labelled features and others.

    Equal samples count once, as in a fit. The gap is 0 if features are not finite,
    which the training explains.
    """
    codes = np.unique(y, return_inverse=True)[1]
    if sample_weight is not None:
        codes, X = codes[sample_weight > 0], X[sample_weight > 0]
    if not (len(X) and np.isfinite(X).all() and np.isfinite(X_target).all()):
        return 0.0
    distinct = np.unique(np.column_stack([codes, X.astype(np.float64)]), axis=0)
    codes = np.unique(distinct[:, 0], return_inverse=True)[1]
    target = np.unique(X_target.astype(np.float64), axis=0)
    return measure_gap(
        measure_classes(distinct[:, 1:], np.eye(codes.max() + 1)[codes]), target
    )


def _move(head, means, shares, X, prior):
    """Return weights, biases and shares of the classes for the target."""
    n_classes = len(means)
    centre, target_shares = means.mean(axis=0), shares
    anchors = _normalised(means - centre)
    for _ in range(_N_SHIFTS):
        shift = X.mean(axis=0) - target_shares @ means  # (d,)
        Z = X - shift - centre
        length = np.linalg.norm(Z, axis=1).mean() or 1.0
        P = softmax(head(X - shift), axis=1)  # (n, k)
        for _ in range(_N_LABELLINGS):
            centroids = _normalised(P.T @ _normalised(Z) + prior * anchors)
            P = softmax(_SCALE / length * Z @ centroids.T, axis=1)
        found = (P.sum(axis=0) + 1) / (len(X) + n_classes)
        target_shares = (target_shares + found) / 2
    shift = X.mean(axis=0) - target_shares @ means
    similarity = LinearHead(_SCALE / length * centroids, np.zeros(n_classes))
    similarity = similarity._replace(bias=-similarity(shift + centre))
    moved = head._replace(bias=head.bias - head.weight @ shift)
    pairs = zip(moved, similarity, strict=True)
    return *(sum(pair) / 2 for pair in pairs), target_shares


def _outside(means, shares, X):
    """Project features (..., d) out of the space that the means of classes span."""
    _, sizes, rows = np.linalg.svd(means - shares @ means, full_matrices=False)
    rows = rows[sizes > 1e-6 * max(sizes.max(), 1e-12)]  # (at most k - 1, d)
    return X - X @ rows.T @ rows


def _squared_distances(X, means):
    squares = (X**2).sum(axis=1)[:, None] - 2 * X @ means.T + (means**2).sum(axis=1)
    return np.maximum(squares, 0)  # (n, k)


def _normalised(X):
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
