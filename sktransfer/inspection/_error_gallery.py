"""Display of the most confident errors of a classifier."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier

from sktransfer.inputs import open_image
from sktransfer.inspection._figures import WIDTH
from sktransfer.inspection._pictures import picture, show
from sktransfer.inspection._unwrap import read
from sktransfer.training import targets_of
from sktransfer.utils import check_is_fitted, import_optional, types

_COLUMNS = {"image": 4, "text": 2}
_LONGEST = 14  # characters of the name of a class
_WIDTH_OF_TEXT = 34  # characters of a line in two columns


class ErrorGalleryDisplay:
    """Display of the samples that a classifier is most confident about, and wrong.

    Images are shown as thumbnails, recordings as curves, and texts as text. It is
    recommended to use :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    pictures : sequence of ndarray or str, length n
        Images of shape (h, w, 3), recordings of shape (t,) or texts.
    y_true, y_pred : array-like of shape (n,)
        True and predicted class of each.
    p_true, p_pred : array-like of shape (n,)
        Their probabilities.
    indices : array-like of int, shape (n,), default=None
        Positions of the samples in X. By default 0 to n - 1.
    n_errors, n_samples : int, default=None
        Number of all errors and of all samples, for the title.

    Attributes
    ----------
    pictures : list
    y_true, y_pred, p_true, p_pred, indices : ndarray of shape (n,)
    n_errors, n_samples
        As given.
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_rows, n_columns)
    figure_ : matplotlib.figure.Figure

    See Also
    --------
    EmbeddingDisplay : Where the errors are among all samples.
    ExplanationDisplay : What a prediction rests on.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inspection import ErrorGalleryDisplay
    >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    >>> display = ErrorGalleryDisplay.from_predictions(
    ...     ["fine", "dull", "not bad"], ["good", "bad", "good"], probabilities,
    ...     classes=["bad", "good"],
    ... )
    >>> display.indices.tolist()
    [0, 1]
    """

    def __init__(
        self,
        pictures: Sequence,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        p_true: ArrayLike,
        p_pred: ArrayLike,
        *,
        indices: ArrayLike | None = None,
        n_errors: int | None = None,
        n_samples: int | None = None,
    ):
        self.pictures = [*pictures]
        self.y_true, self.y_pred = np.asarray(y_true), np.asarray(y_pred)
        self.p_true, self.p_pred = np.asarray(p_true), np.asarray(p_pred)
        n = len(self.pictures)
        self.indices = np.arange(n) if indices is None else np.asarray(indices)
        self.n_errors = n if n_errors is None else n_errors
        self.n_samples = n_samples

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: types.Samples,
        y: ArrayLike | None = None,
        *,
        n: int = 8,
        ax: Any = None,
    ) -> ErrorGalleryDisplay:
        """Predict samples, and draw the most confident errors.

        Errors are where `predict` is wrong, also by a threshold of its own; the
        probabilities of the predicted classes order them.

        Parameters
        ----------
        estimator : fitted classifier
            One of this package with `predict_proba`, or a pipeline or meta-estimator
            that begins with an estimator of this package.
        X : array-like of n_samples
            Samples, as in `fit`.
        y : array-like of shape (n_samples,), default=None
            True classes. By default the labels of X, if it is a Dataset.
        n : int, default=8
            Most errors to show.
        ax : array-like of matplotlib.axes.Axes, default=None
            As in :meth:`plot`.

        Returns
        -------
        ErrorGalleryDisplay

        Raises
        ------
        TypeError
            If the estimator is no classifier.
        ValueError
            If the targets are multilabel.
        """
        check_is_fitted(estimator)
        if not is_classifier(estimator):
            raise TypeError(
                "`estimator` must be a classifier. Got a "
                f"{type(estimator).__name__}, whose predictions are not right or wrong."
            )
        samples = read(estimator, X)
        y = np.asarray(targets_of(samples, y))
        y_pred, probabilities = estimator.predict(X), estimator.predict_proba(X)
        found = _most_confident_errors(y, probabilities, estimator.classes_, n, y_pred)
        return cls._of(samples, found, len(y)).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        X: types.Samples,
        y_true: ArrayLike,
        probabilities: ArrayLike,
        *,
        classes: ArrayLike,
        n: int = 8,
        ax: Any = None,
    ) -> ErrorGalleryDisplay:
        """Draw the most confident errors among predictions.

        Parameters
        ----------
        X : sequence of n_samples
            Images, as paths, PIL images, bytes or arrays of values in [0, 255] or, if
            they are floats, in [0, 1]; or texts, which are strings that name no file.
        y_true : array-like of shape (n_samples,)
            True classes.
        probabilities : array-like of shape (n_samples, n_classes)
            Predicted probabilities, as of `cross_val_predict(..., method=
            "predict_proba")`.
        classes : array-like of shape (n_classes,)
            Classes of the columns.
        n : int, default=8
            Most errors to show.
        ax : array-like of matplotlib.axes.Axes, default=None
            As in :meth:`plot`.

        Returns
        -------
        ErrorGalleryDisplay

        Raises
        ------
        ValueError
            If the numbers of samples, probabilities and classes do not match, or the
            targets are multilabel.
        """
        y, classes = np.asarray(y_true), np.asarray(classes)
        found = _most_confident_errors(y, np.asarray(probabilities), classes, n)
        return cls._of(_Plain(X), found, len(y)).plot(ax)

    @classmethod
    def _of(cls, samples, found, n_samples):
        chosen = found.pop("indices")
        shown = [picture(samples, int(i)) for i in chosen]
        return cls(shown, **found, indices=chosen, n_samples=n_samples)

    def plot(self, ax: Any = None) -> ErrorGalleryDisplay:
        """Draw the samples, with the predicted and the true class above each.

        Parameters
        ----------
        ax : array-like of matplotlib.axes.Axes, default=None
            One per sample; others stay empty. By default those of a new figure.

        Returns
        -------
        ErrorGalleryDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are fewer axes than samples.
        """
        axes = self._new_axes() if ax is None else np.asarray(ax, dtype=object)
        self.axes_ = np.atleast_2d(axes)
        if self.axes_.size < len(self.pictures):
            raise ValueError(
                f"`ax` must hold one Axes per sample, {len(self.pictures)}. Got "
                f"{self.axes_.size}."
            )
        self.figure_ = self.axes_.flat[0].figure
        for panel in self.axes_.flat[len(self.pictures) :]:
            panel.set_axis_off()
        for k, panel in enumerate(self.axes_.flat[: len(self.pictures)]):
            show(panel, self.pictures[k], _WIDTH_OF_TEXT)
            panel.set_title(self._caption(k), fontsize="small", loc="left")
        if ax is None:
            self.figure_.suptitle(self._title(), fontsize="medium")
        return self

    def _new_axes(self):
        feature = type(self).__name__
        plt = import_optional("matplotlib.pyplot", feature=feature, extra="plot")
        is_text = any(isinstance(shown, str) for shown in self.pictures)
        n_columns = _COLUMNS["text" if is_text else "image"]
        n_rows = max(1, -(-len(self.pictures) // n_columns))
        height = 1.7 if is_text else WIDTH / n_columns + 0.45
        size = (WIDTH, 0.4 + n_rows * height)
        layout = {"squeeze": False, "figsize": size, "layout": "constrained"}
        return plt.subplots(n_rows, n_columns, **layout)[1]

    def _caption(self, k):
        return (
            f"{_short(self.y_pred[k])} {self.p_pred[k]:.0%}\n"
            f"true: {_short(self.y_true[k])} {self.p_true[k]:.0%}"
        )

    def _title(self):
        known = "" if self.n_samples is None else f" of {self.n_samples:,} samples"
        if not self.n_errors:
            return f"No errors{known.replace(' of', ' in')}"
        return (
            f"Most confident of {self.n_errors:,} errors{known.replace(' of', ' in')}"
        )


def _short(label):
    text = str(label)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


class _Plain:
    """Samples that are shown without an estimator: images or texts."""

    def __init__(self, X):
        self._X = X.tolist() if hasattr(X, "iloc") else X

    def __getitem__(self, i):
        item = self._X[i]
        is_text = isinstance(item, str) and not os.path.isfile(item)
        return item if is_text or isinstance(item, tuple) else open_image(item)


def _most_confident_errors(y, probabilities, classes, n, y_pred=None):
    """Return the arguments of the display (dict), with the positions in X.

    The predicted classes are by default the most probable ones; those of an estimator
    that decides by a threshold may be less probable.
    """
    _check_shapes(y, probabilities, classes, y_pred)
    y_pred = classes[probabilities.argmax(axis=1)] if y_pred is None else y_pred
    columns = {label: k for k, label in enumerate(classes.tolist())}

    def probabilities_of(labels):
        found = [columns.get(label) for label in labels.tolist()]
        rows = zip(found, probabilities, strict=True)
        return np.array([0.0 if k is None else row[k] for k, row in rows])

    is_error, p_pred = y_pred != y, probabilities_of(y_pred)
    order = np.argsort(np.where(is_error, -p_pred, np.inf), kind="stable")
    chosen = order[: min(n, int(is_error.sum()))]
    return {
        "indices": chosen,
        "y_true": y[chosen],
        "y_pred": y_pred[chosen],
        "p_true": probabilities_of(y)[chosen],
        "p_pred": p_pred[chosen],
        "n_errors": int(is_error.sum()),
    }


def _check_shapes(y, probabilities, classes, y_pred):
    """Raise an error unless each sample has one class and one row of probabilities."""
    is_multilabel = y.ndim != 1 or np.ndim(y_pred) > 1
    if is_multilabel or probabilities.shape != (len(y), len(classes)):
        raise ValueError(
            "`y` must hold one class per sample, of shape (n_samples,), and the "
            f"probabilities must have the shape ({len(y)}, {len(classes)}). Got "
            f"{y.shape} and {probabilities.shape}; for multilabel targets, pass one "
            "label at a time to `from_predictions`."
        )
