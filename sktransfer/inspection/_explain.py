"""Explanations of predictions: how much each part of a sample contributes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from sktransfer.compute import default_torch_state
from sktransfer.inspection._attributions import (
    Cut,
    attention_rollout,
    grad_cam,
    grad_cam_plus_plus,
    integrated_gradients,
    occlusion,
)
from sktransfer.inspection._differentiable import Differentiable
from sktransfer.inspection._image_maps import to_image
from sktransfer.inspection._pictures import picture
from sktransfer.inspection._unwrap import read
from sktransfer.utils import near_matches, types

_METHODS = ("gradcam", "gradcam++", "integrated_gradients", "occlusion", "rollout")
_FOR_ALL = "integrated_gradients"
_WITH = {"stage": ("gradcam", "gradcam++"), "window": ("occlusion",)}  # their methods
_OF_SIDE = 8  # parts of the shorter side of a model input that a window covers


@dataclass(frozen=True, eq=False)
class Explanation:
    """How much each part of a sample contributes to a score.

    Attributes
    ----------
    values : ndarray
        Of an image, a map of its own size (h, w); of a text, one value per token; of
        anything else, one per value of the model input.
    method : str
        Method that computed them.
    target : object
        Class, or number of the output, whose score is explained.
    score : float
        Score of the network for it: a logit, or a standardised prediction.
    shown : ndarray or str
        The sample: an image (h, w, 3), or a text.
    tokens : list of str or None
        Tokens of a text.
    seen : tuple of int (top, left, bottom, right) or None
        Box of the image that the network saw, in px; beyond it, values are zero.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier
    >>> from sktransfer.inspection import explain
    >>> digits = load_digits(n_class=2)
    >>> X, y = digits.images[:20] / 16, digits.target[:20]
    >>> model = FineTunedClassifier(freeze="all", image_size=32).fit(X, y)
    >>> (explanation,) = explain(model, X[:1])
    >>> explanation.method, explanation.target, explanation.values.shape
    ('gradcam', np.int64(0), (8, 8))
    """

    values: np.ndarray
    method: str
    target: Any
    score: float
    shown: Any
    tokens: list | None = None
    seen: tuple | None = None


@default_torch_state()
def explain(
    estimator: Any,
    X: types.Samples,
    *,
    method: str = "auto",
    target: ArrayLike | None = None,
    stage: int | str | None = None,
    n_steps: int = 32,
    window: int | None = None,
) -> list[Explanation]:
    """Explain predictions by how much each part of the samples contributes to them.

    Parameters
    ----------
    estimator : fitted estimator
        A :class:`sktransfer.FineTunedClassifier` or
        :class:`sktransfer.FineTunedRegressor`; a pipeline of a
        :class:`sktransfer.PretrainedFeatureExtractor`, scalers and a linear model, as
        :func:`sktransfer.model.to_torch` takes; or a search or meta-estimator of these.
    X : array-like of n_samples
        Samples, as in `fit`.
    method : str, default="auto"
        - "gradcam" [1]_ and "gradcam++" [2]_: the activations at a stage, weighted by
          the gradients of the score. Coarse maps for images; nothing is negative.
        - "integrated_gradients" [3]_: gradients on the way from a baseline to the
          sample, which sum to the difference of the scores. For images, the baseline is
          the mean colour of the weights; for texts, padding in place of the tokens,
          whose embeddings are attributed and summed; for others, zeros.
        - "occlusion" [4]_: how much the score drops if a square of an image is painted
          over in the mean colour. No gradients are used.
        - "rollout" [5]_: how much of each patch reaches the class token by attention,
          for vision transformers of timm. It is the same for all targets.
        - "auto": "gradcam" for images and "integrated_gradients" otherwise.

        "integrated_gradients" and "occlusion" need the extra ``explain``.
    target : label or array-like of shape (n_samples,), default=None
        Classes whose scores are explained, or numbers of the outputs of a regressor. By
        default the classes of the highest scores, whatever threshold a meta-estimator
        decides by, or the first output.
    stage : int or str, default=None
        Stage whose activations Grad-CAM looks at. By default the last one before the
        head whose activation is a map. Earlier ones have finer maps, which depend less
        on the target. It must be None for other methods.
    n_steps : int, default=32
        Steps of integrated gradients.
    window : int, default=None
        Side of the square of "occlusion" in px of the model input, which moves by half
        of it. By default an eighth of the shorter side. It must be None for other
        methods.

    Returns
    -------
    list of Explanation
        One per sample.

    Raises
    ------
    ImportError
        If the method needs captum, and it is not installed.
    TypeError
        If the estimator predicts nothing, or a step of the pipeline is not linear.
    ValueError
        If the method does not apply to the samples or the network, or an option is
        invalid or not one of the method.

    See Also
    --------
    ExplanationDisplay : Draws explanations.
    ErrorGalleryDisplay : Finds the predictions that need one.

    References
    ----------
    .. [1] R. R. Selvaraju et al. (2017). Grad-CAM. https://arxiv.org/abs/1610.02391
    .. [2] A. Chattopadhay et al. (2018). Grad-CAM++. https://arxiv.org/abs/1710.11063
    .. [3] M. Sundararajan et al. (2017). Axiomatic attribution for deep networks.
       https://arxiv.org/abs/1703.01365
    .. [4] M. D. Zeiler, R. Fergus (2014). Visualizing and understanding convolutional
       networks. https://arxiv.org/abs/1311.2901
    .. [5] S. Abnar, W. Zuidema (2020). Quantifying attention flow in transformers.
       https://arxiv.org/abs/2005.00928

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier
    >>> from sktransfer.inspection import explain
    >>> X, y = load_digits().images[:40] / 16, load_digits().target[:40]
    >>> model = FineTunedClassifier(freeze="all", image_size=64).fit(X, y)
    >>> (explanation,) = explain(model, X[:1])
    >>> explanation.values.shape, int(explanation.target)
    ((8, 8), 0)
    """
    network = Differentiable.of(estimator)
    kind = network.backbone.preprocessing.kind
    method = _resolve(method, kind)
    _check_options(method, stage, n_steps, window)
    samples = read(estimator, X)
    columns = _columns(target, len(samples), network.classes)
    compute = partial(
        _OF_KIND.get(kind, _explain_values),
        network,
        method,
        stage=stage,
        n_steps=n_steps,
        window=window,
    )
    return [compute(samples, i, column) for i, column in enumerate(columns)]


def _resolve(method, kind):
    """Return the method; raise an error if it does not apply to the samples."""
    if method == "auto":
        return "gradcam" if kind == "image" else _FOR_ALL
    if method not in _METHODS:
        near = near_matches(str(method), _METHODS)
        raise ValueError(
            f"`method` must be 'auto' or one of {[*_METHODS]}. Got {method!r}.{near}"
        )
    if kind != "image" and method != _FOR_ALL:
        raise ValueError(
            f"`method` must be {_FOR_ALL!r} for samples that are not images. Got "
            f"{method!r}, which makes maps of images."
        )
    return method


def _check_options(method, stage, n_steps, window):
    """Raise an error if an option is invalid, or not one of the method."""
    for name, value in (("stage", stage), ("window", window)):
        if value is not None and method not in _WITH[name]:
            raise ValueError(
                f"`{name}` must be None unless `method` is one of {[*_WITH[name]]}. "
                f"Got {name}={value!r} with method={method!r}, which has no use for it."
            )
    given = {"n_steps": n_steps} | ({} if window is None else {"window": window})
    for name, value in given.items():
        is_int = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_int or value < 1:
            raise ValueError(f"`{name}` must be an int of at least 1. Got {value!r}.")


def _columns(target, n_samples, classes):
    """Return the columns of the scores to explain; None for the predicted class."""
    if target is None:
        return [None if classes is not None else 0] * n_samples
    targets = np.asarray(target)
    if targets.ndim == 0:
        targets = np.repeat(targets, n_samples)
    if targets.shape != (n_samples,):
        raise ValueError(
            f"`target` must be a class or one per sample, of shape ({n_samples},). Got "
            f"{targets.shape}."
        )
    if classes is None:
        if targets.dtype.kind not in "iu":
            raise ValueError(
                "`target` must hold numbers of the outputs of the regressor, which are "
                f"ints. Got {targets.tolist()[0]!r}."
            )
        return [int(column) for column in targets]
    known = {label: column for column, label in enumerate(classes.tolist())}
    missing = [label for label in targets.tolist() if label not in known]
    if missing:
        raise ValueError(
            f"`target` must hold classes of the estimator: {[*known][:10]}. Got "
            f"{missing[0]!r}."
        )
    return [known[label] for label in targets.tolist()]


def _scored(network, scores, column):
    """Return column, target and score (dict) of the scores (1, n_outputs)."""
    column = int(scores[0].argmax()) if column is None else column
    if not 0 <= column < scores.shape[1]:
        raise ValueError(
            f"`target` must be the number of an output, from 0 to {scores.shape[1] - 1}"
            f". Got {column}."
        )
    label = column if network.classes is None else network.classes[column]
    return column, {"target": label, "score": float(scores[0, column])}


def _explain_image(network, method, samples, i, column, *, stage, n_steps, window):
    """Explain the prediction of an image (Explanation)."""
    sample, preprocessing = samples[i], network.backbone.preprocessing
    x, whole = network.to_input(sample), network.network()
    with torch.no_grad():
        column, about = _scored(network, whole(x), column)
    if method in ("gradcam", "gradcam++"):
        boundary = network.last_map() if stage is None else network.check_map(stage)
        cut = Cut(*network.cut(boundary), network.layout(boundary))
        compute = grad_cam if method == "gradcam" else grad_cam_plus_plus
        found = compute(cut, x, column)
    elif method == "occlusion":
        window = _window_in(x, window)
        found = occlusion(whole, x, column, window)
    elif method == "rollout":
        layout = network.layout(network.end)
        found = attention_rollout(network.backbone.network, x, layout)
    else:
        baseline = torch.zeros_like(x)  # the mean colour
        parts = integrated_gradients(whole, x, baseline, column, n_steps)
        found = parts[0].sum(dim=0)
    size = sample.height, sample.width
    values, seen = to_image(found.cpu().float(), preprocessing, size)
    shown = picture(samples, i, None)
    return Explanation(values, method, **about, shown=shown, seen=seen)


def _window_in(x, window):
    """Return the side of the window in px of the model input; by default a part."""
    side = min(x.shape[2:])
    if window is not None and window > side:
        raise ValueError(
            f"`window` must be at most {side}, the shorter side of the model input in "
            f"px. Got {window}."
        )
    return window or max(1, side // _OF_SIDE)


def _explain_text(network, method, samples, i, column, *, n_steps, **_others):
    """Explain the prediction of a text, by its tokens (Explanation)."""
    preprocessing = network.backbone.preprocessing
    if preprocessing.max_windows > 1:
        raise ValueError(
            "Texts that are read in windows cannot be explained. Got an estimator with "
            f"`max_windows={preprocessing.max_windows}`; train one with 1."
        )
    x = network.to_input(samples[i])
    embed, rest = network.cut(network.backbone.stage_names[0])
    tokens = preprocessing.tokens(samples[i])
    ids = x["ids"].clone()
    for place, is_special in enumerate(preprocessing.is_special(samples[i])):
        if not is_special:
            ids[0, place] = preprocessing.pad_id
    with torch.no_grad():
        state, empty = embed(x), embed({**x, "ids": ids})
        column, about = _scored(network, rest(state), column)

    def scores(hidden):
        return rest({**_repeated(state, len(hidden)), "hidden": hidden})

    hidden = state["hidden"], empty["hidden"]
    parts = integrated_gradients(scores, *hidden, column, n_steps)
    values = parts[0].sum(dim=1)[: len(tokens)].cpu().numpy()
    shown = picture(samples, i)
    return Explanation(values, method, **about, shown=shown, tokens=tokens)


def _explain_values(network, method, samples, i, column, *, n_steps, **_others):
    """Explain the prediction of any other sample, by its model input (Explanation)."""
    x, whole = network.to_input(samples[i]), network.network()
    name = None
    if isinstance(x, dict):
        name = next(key for key, part in x.items() if part.is_floating_point())
    values = x if name is None else x[name]
    with torch.no_grad():
        column, about = _scored(network, whole(x), column)

    def scores(given):
        return whole(
            given if name is None else {**_repeated(x, len(given)), name: given}
        )

    baseline = torch.zeros_like(values)
    parts = integrated_gradients(scores, values, baseline, column, n_steps)
    found, mask = parts[0], x.get("mask") if isinstance(x, dict) else None
    if mask is not None and mask.shape[1:] == found.shape[:1]:  # without padding
        found = found[mask[0].bool()]
    shown = picture(samples, i)
    return Explanation(found.cpu().numpy(), method, **about, shown=shown)


def _repeated(state, n):
    """Return a group of tensors of one sample, n times."""
    return {name: part.expand(n, *part.shape[1:]) for name, part in state.items()}


_OF_KIND = {"image": _explain_image, "text": _explain_text}
