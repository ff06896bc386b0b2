"""A classifier that trains the last stages of a pretrained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from torch import nn

from sktransfer._base import restore_on_error
from sktransfer._fine_tuned import FineTunedEstimator
from sktransfer.backbones import BackboneLike
from sktransfer.fitting import shares_docs
from sktransfer.model import ClassOutputs
from sktransfer.training import (
    Augmentation,
    EarlyStopping,
    Pooling,
    Probe,
    Solution,
    TrainingRecipe,
    constant_head,
    cross_entropy,
    find_loss,
    fit_multilabel_probe,
    fit_probe,
    middle_C,
    open_outputs,
    open_to_new_classes,
    search_C,
    search_multilabel_C,
    weigh_classes,
    weigh_labels,
)
from sktransfer.utils import Interval, StrOptions, column_or_1d, types


@shares_docs
class FineTunedClassifier(ClassifierMixin, FineTunedEstimator):
    """Classifier that fine-tunes the last stages of a pretrained network.

    The first stages keep the weights that they came with (`freeze` says how many), so
    their activations are computed once, before the first epoch. The stages above and a
    new head are trained on them. A linear head starts from the probe, a logistic
    regression on the features of the pretrained network. With ``freeze="all"``, the
    probe is all that is fitted.

    Parameters
    ----------
    {network}
    C : float or "auto", default="auto"
        Inverse strength of the probe's L2 penalty, as in
        :class:`sklearn.linear_model.LogisticRegression`; "auto" chooses it by
        cross-validation on the features.
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes by label; "balanced" gives all classes the same total
        weight. For multilabel targets, a dict has the weights of the ones of a label,
        named as in ``classes_``; a list has a dict ``{0: weight, 1: weight}`` for each
        label; and "balanced" gives the ones and the zeros of each label the same total
        weight. They are positive, those that are left out are 1, and they need the
        default `loss`.
    loss : "cross_entropy", another registered name or callable, \
default="cross_entropy"
        Loss to minimise. A callable takes scores of shape (n, n_classes) and targets,
        int64 codes of shape (n,) or, for multilabel targets, 0 and 1 of shape
        (n, n_labels), as tensors, and returns the losses of the samples, of shape (n,).
        The probe always minimises the cross-entropy.
    {training}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; for multilabel targets, the names of the columns of y if it is a
        data frame, and otherwise their positions.
    C_ : float
        Value of `C` that the probe was fitted with, if there was one.
    {attributes}

    See Also
    --------
    FineTunedRegressor : Regressor with the same parameters.
    PretrainedFeatureExtractor : Transformer, for any other estimator.
    sktransfer.backbones.describe_backbone : List the stages.

    References
    ----------
    A. Kumar et al. (2022). Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution. https://arxiv.org/abs/2202.10054

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> model = FineTunedClassifier(
    ...     freeze="all", image_shape=(8, 8), value_range=(0, 16), image_size=64
    ... )
    >>> model.fit(X[:60], y[:60]).score(X[60:120], y[60:120])
    1.0
    """

    _parameter_constraints: ClassVar[dict] = {
        **FineTunedEstimator._parameter_constraints,
        "C": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "loss": [str, callable],
    }

    _strength = "C_"

    def __init__(
        self,
        backbone: BackboneLike = "efficientnet_lite0",
        *,
        weights: types.Weights = "default",
        freeze: float | str = "auto",
        head: str | nn.Module = "linear",
        pooling: str | Pooling = "auto",
        C: float | str = "auto",
        class_weight: dict | list | str | None = None,
        loss: str | Callable = "cross_entropy",
        max_epochs: int | str = "auto",
        lr: float = 5e-4,
        batch_size: int | str = "auto",
        augment: str | Callable | Augmentation | None = "auto",
        early_stopping: bool | EarlyStopping = False,
        training: TrainingRecipe | None = None,
        image_size: types.ImageSize | None = None,
        image_shape: Sequence[int] | None = None,
        value_range: types.ValueRange = "auto",
        device: types.Device = "auto",
        memory: types.Memory | None = None,
        checkpoint: str | Path | None = None,
        warm_start: bool = False,
        callbacks: Sequence | None = None,
        random_state: types.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.freeze = freeze
        self.head = head
        self.pooling = pooling
        self.C = C
        self.class_weight = class_weight
        self.loss = loss
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.augment = augment
        self.early_stopping = early_stopping
        self.training = training
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.device = device
        self.memory = memory
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @restore_on_error
    def partial_fit(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on some samples.

        The first call determines the network: ``freeze="auto"`` depends on its number
        of samples. No samples are held out for early stopping. If only a linear head is
        trained, it is solved on the new samples and a summary of all earlier ones, and
        the classes may come in any order.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels of this and later calls, given in the first one; by default
            those in y.

        Returns
        -------
        self : FineTunedClassifier

        Raises
        ------
        ValueError
            If `classes` or the parameters that determine the network differ from those
            of the first call, or if y holds other labels.
        """
        self._validate_params()
        self._check_same_classes(classes)
        return self._partial_fit(X, y, sample_weight, classes)

    def _check_same_classes(self, classes):
        """Raise an error if the classes are not those of the first call."""
        is_first = not hasattr(self, "classes_")
        if is_first or classes is None or self.model_.outputs.is_multilabel:
            return
        if not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to "
                f"partial_fit, was: {self.classes_!r}. Give the same labels or none; a "
                "`clone` of the estimator starts from the beginning."
            )

    def decision_function(self, X: types.Samples) -> NDArray[np.float64]:
        """Compute the scores of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,), float64
            Logits; for two classes, that of the second minus that of the first.
        """
        scores = self._scores(X)
        if self.model_.outputs.is_multilabel or len(self.classes_) > 2:
            return scores
        return scores[:, 1] - scores[:, 0]

    def predict_proba(self, X: types.Samples) -> NDArray[np.float64]:
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Rows sum to one, except for multilabel targets, where each column holds the
            probability of its label.
        """
        scores = self._scores(X)
        is_multilabel = self.model_.outputs.is_multilabel
        return expit(scores) if is_multilabel else softmax(scores, axis=1)

    def predict_log_proba(self, X: types.Samples) -> NDArray[np.float64]:
        """Compute the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Finite also where the probability itself is too small for a float64.
        """
        scores = self._scores(X)
        is_multilabel = self.model_.outputs.is_multilabel
        return log_expit(scores) if is_multilabel else log_softmax(scores, axis=1)

    def score(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute the accuracy.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        float
            For multilabel targets, the share of samples whose labels are all correct.

        Warns
        -----
        UserWarning
            If some labels were not in `fit`, and cannot be predicted.
        """
        labels = self._labels(X, y)
        self.model_.outputs.warn_of_unseen(labels)
        return super().score(X, labels, sample_weight)

    def predict(self, X: types.Samples) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels of ``classes_``; for multilabel targets, 0 and 1.
        """
        scores = self._scores(X)
        if self.model_.outputs.is_multilabel:
            return (scores > 0).astype(int)
        return self.classes_[scores.argmax(axis=1)]

    def _learn_outputs(self, y, classes):
        return ClassOutputs.learn(y, classes)

    def _weigh(self, y, sample_weight, outputs):
        if outputs.is_multilabel:
            return sample_weight
        y, classes = column_or_1d(y), outputs.classes
        return weigh_classes(self.class_weight, y, sample_weight, classes)

    def _weigh_labels(self, data, outputs):
        if self.class_weight is None or not outputs.is_multilabel:
            return None
        if self.loss != "cross_entropy":
            raise ValueError(
                "`class_weight` must be None for multilabel targets with another "
                "`loss` than 'cross_entropy'. Got "
                f"{self.class_weight!r}; weight the labels in the loss."
            )
        given = data.y, data.weight, outputs.classes
        return weigh_labels(self.class_weight, *given)

    def _loss(self, label_weight):
        smoothing = TrainingRecipe.of(self.training).label_smoothing
        if self.loss == "cross_entropy":
            weights = {"label_smoothing": smoothing, "label_weight": label_weight}
            return partial(cross_entropy, **weights)
        if smoothing:
            raise ValueError(
                "`training__label_smoothing` must be 0 with another `loss` than "
                f"'cross_entropy'. Got {smoothing!r}; smooth the targets in the loss."
            )
        return find_loss(self.loss, "classification")

    def _probe(self, outputs, label_weight):
        # Two opposite rows of weights have half the squares of their difference.
        are_opposite = outputs.n_outputs == 2 and not outputs.is_multilabel
        return Probe(
            solve=partial(_solve, outputs, self.C, label_weight),
            penalty=lambda C: (2 if are_opposite else 1) / C,
            loss=partial(cross_entropy, label_weight=label_weight),
            label_weight=label_weight,
            kind=outputs.kind,
            is_final=self.head == "linear" and self.loss == "cross_entropy",
        )


def _solve(outputs, C, label_weight, features, y, sample_weight, groups, is_partial):
    """Solve logistic regression (Solution)."""
    known, weighted = np.unique(y), {"sample_weight": sample_weight}
    search, fit = search_C, partial(fit_probe, n_classes=outputs.n_outputs)
    if outputs.is_multilabel:
        search, fit = search_multilabel_C, fit_multilabel_probe
        weighted["label_weight"] = label_weight
    middle = middle_C(features.numpy(), sample_weight)
    strength = float(middle if C == "auto" else C)
    if len(known) == 1 and not outputs.is_multilabel:
        head = constant_head(features.shape[1], outputs.n_outputs)
        open_to_new_classes(head, features, known)
        return Solution(head, strength, {"train_loss": 0.0, "n_iter": 0})
    if C == "auto":
        strength = search(features, y, groups=groups, **weighted)
        # Few samples may suggest a penalty that is too strong for later ones.
        strength = max(strength, middle) if is_partial else strength
    head, n_iter, loss = fit(features, y, C=strength, **weighted)
    if is_partial:
        open_to_others = open_to_new_classes
        if outputs.is_multilabel:
            open_to_others = open_outputs
        open_to_others(head, features, known)
    return Solution(head, strength, {"train_loss": loss, "n_iter": n_iter})
