"""A classifier that trains the last stages of a pretrained network."""

import warnings
from functools import partial
from numbers import Real

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from torch import nn

from sktransfer._base import undone_on_error
from sktransfer._diagnosis import check_depth
from sktransfer._docs import shares_docs
from sktransfer._fine_tuned import FineTunedEstimator
from sktransfer.training import (
    Probabilities,
    cross_entropy,
    fit_multilabel_probe,
    fit_probe,
    lda_predictions,
    middle_C,
    search_C,
    search_multilabel_C,
    weigh_classes,
)
from sktransfer.utils import (
    Interval,
    StrOptions,
    check_classification_targets,
    column_or_1d,
    type_of_target,
)

__all__ = ["FineTunedClassifier"]


@shares_docs
class FineTunedClassifier(ClassifierMixin, FineTunedEstimator):
    """Classify with a pretrained network of which the last stages are trained.

    The first stages keep the weights that they came with (`freeze` says how many), so
    their activations are computed once, before the first epoch. The stages above and a
    new head are trained on them. With ``freeze="all"`` only the head is left, which is
    logistic regression and solved as such.

    Parameters
    ----------
    {parameters}
    C : float or "auto", default="auto"
        Inverse strength of the probe's L2 penalty, as in
        :class:`sklearn.linear_model.LogisticRegression`; "auto" chooses it by
        cross-validation on the features.
    label_smoothing : float, default=0.0
        Share of the target that all classes have in equal parts. The probe has none.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn.
    {settings}
    {augmentation}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; of independent labels, their columns.
    C_ : float
        The strength that the probe had, if there was one.
    {attributes}

    See Also
    --------
    FineTunedRegressor : The same for numbers.
    PretrainedFeatureExtractor : Features for any other estimator.
    sktransfer.backbones.describe_backbone : The stages to freeze.

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

    _parameter_constraints = {
        **FineTunedEstimator._parameter_constraints,
        "C": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        weights="default",
        freeze="auto",
        unfreeze_every=None,
        adapter=None,
        adapter_rank=8,
        adapter_alpha=16.0,
        pooling="auto",
        pool_size=1,
        head="linear",
        head_init="probe",
        dropout=0.0,
        C="auto",
        label_smoothing=0.0,
        class_weight=None,
        image_size=None,
        image_shape=None,
        value_range="auto",
        max_epochs=10,
        lr=1e-3,
        backbone_lr_ratio=0.5,
        layer_decay=1.0,
        lr_schedule="cosine",
        weight_decay=0.01,
        l2_sp=0.0,
        max_grad_norm=1.0,
        accumulate_grad_batches=1,
        batch_norm="eval",
        ema=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        augment=None,
        n_views=None,
        augment_activations=False,
        mixup=0.0,
        cutmix=0.0,
        tta=None,
        batch_size="auto",
        device="auto",
        callbacks=None,
        memory=None,
        checkpoint=None,
        warm_start=False,
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.freeze = freeze
        self.unfreeze_every = unfreeze_every
        self.adapter = adapter
        self.adapter_rank = adapter_rank
        self.adapter_alpha = adapter_alpha
        self.pooling = pooling
        self.pool_size = pool_size
        self.head = head
        self.head_init = head_init
        self.dropout = dropout
        self.C = C
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.max_epochs = max_epochs
        self.lr = lr
        self.backbone_lr_ratio = backbone_lr_ratio
        self.layer_decay = layer_decay
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.l2_sp = l2_sp
        self.max_grad_norm = max_grad_norm
        self.accumulate_grad_batches = accumulate_grad_batches
        self.batch_norm = batch_norm
        self.ema = ema
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.augment = augment
        self.n_views = n_views
        self.augment_activations = augment_activations
        self.mixup = mixup
        self.cutmix = cutmix
        self.tta = tta
        self.batch_size = batch_size
        self.device = device
        self.callbacks = callbacks
        self.memory = memory
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @undone_on_error
    def partial_fit(self, X, y=None, classes=None, sample_weight=None):
        """Train for one epoch on some samples.

        The first call settles the network: ``freeze="auto"`` looks at its number of
        samples. Nothing is held out for early stopping. Where a linear head alone is
        left, it is solved on the new samples and a summary of all those before, in
        whatever order classes come.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come, in the first call; by default those in y.

        Returns
        -------
        self : FineTunedClassifier
        """
        self._validate_params()
        if not hasattr(self, "net_"):
            self._given_classes = classes
            try:
                return self._fit_part(X, y, sample_weight)
            finally:
                del self._given_classes
        self._check_same_classes(classes)
        return self._go_on(X, y, sample_weight)

    def _check_same_classes(self, classes):
        """Refuse other classes than those of the first call, as scikit-learn does."""
        if classes is None or self._multilabel:
            return
        if not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to "
                f"partial_fit, was: {self.classes_!r}. Give the same labels or none; a "
                "`clone` of the estimator starts anew."
            )

    def decision_function(self, X):
        """Compute the scores of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,), float64
            Logits; for two classes, that of the second less that of the first.
        """
        scores = self._scores(X)
        if self._multilabel or len(self.classes_) > 2:
            return scores
        return scores[:, 1] - scores[:, 0]

    def predict_proba(self, X):
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Rows sum to one; of independent labels, each is a probability of its own.
        """
        scores = self._scores(X)
        return expit(scores) if self._multilabel else softmax(scores, axis=1)

    def predict_log_proba(self, X):
        """Compute the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Finite where a probability is too small for its own float64.
        """
        scores = self._scores(X)
        return log_expit(scores) if self._multilabel else log_softmax(scores, axis=1)

    def score(self, X, y=None, sample_weight=None):
        """Compute the share of correct predictions.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Labels. May be left out if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same.

        Returns
        -------
        float
            Of independent labels, the share of samples with all labels correct.

        Warns
        -----
        UserWarning
            If y is left out and X has labels that `fit` never saw.
        """
        labels = self._labels(X, y)
        if y is None and not self._multilabel:
            _warn_of_unseen(labels, self.classes_)
        return super().score(X, labels, sample_weight)

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Of the labels in ``classes_``; of independent labels, 0 and 1.
        """
        scores = self._scores(X)
        if self._multilabel:
            return (scores > 0).astype(int)
        return self.classes_[scores.argmax(axis=1)]

    def _encode(self, y):
        """Learn the labels; return int64 codes or, of independent labels, 0 and 1."""
        _check_labels(y)
        self._multilabel = type_of_target(y).startswith("multilabel")
        if self._multilabel:
            codes = _dense(y)
            self.classes_ = np.arange(codes.shape[1])
        else:
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
            given = getattr(self, "_given_classes", None)
            self.classes_ = np.unique(y if given is None else given)
            codes = self._encode_again(y)
        self._n_outputs = len(self.classes_)
        return codes

    def _encode_again(self, y):
        """Encode labels that are known."""
        _check_labels(y)
        if self._multilabel:
            return _dense(y, len(self.classes_))
        y = column_or_1d(y, warn=True)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"`y` holds labels that are not among the classes: "
                f"{unknown[:5].tolist()}. The classes are "
                f"{self.classes_[:10].tolist()}."
            )
        return np.searchsorted(self.classes_, y).astype(np.int64)

    def _weigh(self, y, sample_weight):
        if self._multilabel:
            if self.class_weight is not None:
                raise ValueError(
                    "`class_weight` must be None for independent labels. Got "
                    f"{self.class_weight!r}; use `sample_weight`."
                )
            return sample_weight
        y = column_or_1d(y)
        return weigh_classes(self.class_weight, y, sample_weight, self.classes_)

    def _prepare(self, y, sample_weight):
        """Check that there is something to learn."""
        if not len(y):
            raise ValueError("All samples have weight zero: there is nothing to fit.")
        is_part = getattr(self, "_given_classes", None) is not None
        if is_part and self._n_outputs > 1:
            return  # the other classes may come later
        if not self._multilabel and len(np.unique(y)) < 2:
            raise ValueError(
                "`y` must have at least two classes among the samples that have "
                f"weight. Got one class: {self.classes_.tolist()[y[0]]!r}."
            )

    def _to_tensor(self, y):
        return torch.from_numpy(y)

    def _strata(self, y):
        return np.zeros(len(y), dtype=int) if self._multilabel else y

    def _quality(self, scores, y):
        """Return the accuracy of scores (float)."""
        if self._multilabel:
            return float(((scores > 0) == (y > 0)).float().mean())
        return float((scores.argmax(dim=1) == y).float().mean())

    def _say(self, quality):
        return f"{quality:.0%} right"

    def _check_depth(self, samples, y):
        if not self._multilabel:
            check_depth(self, samples, y, lda_predictions)

    def _loss(self):
        return partial(cross_entropy, label_smoothing=self.label_smoothing)

    def _probe_loss(self, scores, y):
        return cross_entropy(scores, y)

    def _nonlinearity(self):
        return Probabilities(self._multilabel)

    def _last_step(self):
        """Return what turns scores into probabilities, as a module, and their name."""
        return nn.Sigmoid() if self._multilabel else nn.Softmax(1), "probabilities"

    def _kind(self):
        return "multilabel" if self._multilabel else "multiclass"

    def _penalty(self):
        """Return what half the sum of the squared weights is multiplied by."""
        # Two opposite rows of weights have half the squares of their difference.
        are_opposite = self._n_outputs == 2 and not self._multilabel
        return (2 if are_opposite else 1) / self.C_

    def _solve_head(self, features, y, sample_weight, groups, is_part):
        """Fit logistic regression (linear layer and row of the history)."""
        is_auto, weighted = self.C == "auto", {"sample_weight": sample_weight}
        known = np.unique(y)
        is_constant = len(known) == 1 and not self._multilabel
        if self._multilabel:
            search, solve = search_multilabel_C, fit_multilabel_probe
        else:
            search, solve = search_C, partial(fit_probe, n_classes=self._n_outputs)
        middle = middle_C(features.numpy(), sample_weight)
        self.C_ = float(self.C if not is_auto else middle)
        if is_auto and not is_constant:
            C = search(features, y, groups=groups, **weighted)
            # A few samples must not settle on next to no classifier.
            self.C_ = max(C, middle) if is_part else C
        if is_constant:
            head = _constant_head(features.shape[1], self._n_outputs)
            _open_to_new_classes(head, features, known)
            return head, {"train_loss": 0.0, "n_iter": 0}
        head, n_iter, loss = solve(features, y, C=self.C_, **weighted)
        if is_part:
            open_to_others = _open_outputs if self._multilabel else _open_to_new_classes
            open_to_others(head, features, known)
        return head, {"train_loss": loss, "n_iter": n_iter}


def _check_labels(y):
    """Refuse labels that are missing, or of kinds that have no common order."""
    if hasattr(y, "toarray"):
        return
    is_array = hasattr(y, "__array__")
    labels = np.asarray(y) if is_array else pd.Series(list(y), dtype=object).to_numpy()
    has_rows = any(np.ndim(row) for row in labels[:1].tolist())
    if labels.dtype.kind not in "fO" or has_rows:
        return  # rows of independent labels hold 0 and 1, or are refused later
    missing = ~np.isfinite(labels) if labels.dtype.kind == "f" else pd.isna(labels)
    rows = np.flatnonzero(missing.reshape(len(labels), -1).any(axis=1))
    if len(rows):
        raise ValueError(
            "Input y contains NaN or infinity, where labels must be. Got "
            f"{labels[rows].tolist()[0]!r} for sample {rows[0]}; drop the sample or "
            "fill its label in."
        )
    try:
        np.unique(labels)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels.flat})
        if len(kinds) == 1:
            raise TypeError(
                f"`y` must hold labels that can be sorted. Got {kinds[0]}, which "
                "cannot; make them strings or numbers, as by `[str(label) for label in "
                "y]`."
            ) from error
        raise TypeError(
            f"`y` must hold labels of one kind. Got {' and '.join(kinds)}; make them "
            "one, as by `[str(label) for label in y]`."
        ) from error


def _warn_of_unseen(labels, classes):
    """Tell labels that no prediction can be, as folds in the order of a folder have."""
    if np.isin(labels, classes).all():
        return
    warnings.warn(
        "X has labels that were not among those of `fit`: these samples count as "
        "wrong. Folds are stratified only where y is passed, as in `search.fit(X, y)`; "
        "for an `ImageFolder`, y is `X.targets`.",
        UserWarning,
        stacklevel=3,
    )


def _dense(y, n_labels=None):
    """Independent labels, 0 and 1 in float32, of shape (n, k)."""
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    if n_labels is not None and (y.ndim != 2 or y.shape[1] != n_labels):
        raise ValueError(
            f"`y` must have a column for each of the {n_labels} labels. Got shape "
            f"{y.shape}."
        )
    y = y.astype(np.float32)
    if not np.isin(y, [0, 1]).all():
        raise ValueError(
            "`y` with independent labels must hold 0 and 1 only. Got "
            f"{np.unique(y)[:5].tolist()}."
        )
    return y


def _constant_head(n_features, n_classes):
    """Return a layer that finds no class likelier than another."""
    head = nn.utils.skip_init(nn.Linear, n_features, n_classes)  # which draws nothing
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _open_to_new_classes(head, features, known):
    """Let classes that had no sample yet be learned, from a share of one in n each."""
    new = np.setdiff1d(np.arange(head.out_features), known)
    with torch.no_grad():
        total = head(features)[:, known].logsumexp(dim=1)  # (n,)
        head.bias[new] = total.min() - np.log(len(features))


def _open_outputs(head, features, known):
    """Let outputs that had one value so far learn the other, from one in 2n + 2."""
    with torch.no_grad():
        constant = ~head.weight.any(dim=1)
        sign = head.bias[constant].sign()
        head.bias[constant] = sign * np.log(2 * len(features) + 1)
