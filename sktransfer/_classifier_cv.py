"""A fine-tuned classifier that chooses its depth by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from sktransfer._classifier import FineTunedClassifier
from sktransfer._cv import FineTunedSearch
from sktransfer.utils import Interval, StrOptions, types


class FineTunedClassifierCV(ClassifierMixin, FineTunedSearch):
    """Fine-tuned classifier that chooses `freeze` and `C` by cross-validation.

    It gives what a :class:`sklearn.model_selection.GridSearchCV` over a
    :class:`FineTunedClassifier` gives, with fewer trainings: after each fold only the
    best third of the candidates remain. Scores are those of the grid search, or missing
    where a candidate was dropped before. With ``halving=False`` all of them are there.

    Parameters
    ----------
    estimator : FineTunedClassifier, default=None
        Estimator of which clones are fitted; by default ``FineTunedClassifier()``. Its
        own `freeze` has no effect.
    freeze : list, or one int, float or str, default=(0.33, 0.67, "all")
        Values of `freeze` to choose from, see :class:`FineTunedClassifier`. The
        default is a third, two thirds and all of the stages.
    C : list, float, "auto" or None, default=None
        Values of `C` to choose from; None leaves that of the estimator.
    cv : int, splitter, iterable of splits or None, default=5
        Folds, as in :class:`~sklearn.model_selection.GridSearchCV`: an int is a number
        of stratified ones without shuffling.
    scoring : str, callable or None, default=None
        Scorer, for which higher is better, see
        :func:`sklearn.metrics.get_scorer_names`. By default the accuracy.
    refit : bool, default=True
        Whether to fit the best candidate to all samples. Otherwise this estimator
        cannot predict.
    halving : bool, default=True
        Whether only the best third of the candidates, rounded up, remain after each
        fold, but at least two until the second. No candidate is trained on further
        folds once a single one remains.
    n_jobs : int, default=None
        Number of processes that train candidates; None is one. With a folder as
        ``estimator__memory``, they share activations.

    Attributes
    ----------
    best_estimator_ : FineTunedClassifier
        The best candidate, fitted to all samples. All of its fitted attributes, such as
        ``classes_``, ``freeze_depth_``, ``C_``, ``model_`` and ``history_``, are also
        attributes of this estimator.
    best_params_ : dict
        Its parameters that were searched. Of equal scores, those that train fewer
        parameters are chosen, and then the smaller C.
    best_score_ : float
        Its mean score over the folds that it was trained in.
    best_index_ : int
        Its position in ``cv_results_``.
    cv_results_ : dict of arrays
        As in :class:`~sklearn.model_selection.GridSearchCV`. In addition, ``n_folds``
        is the number of folds of each candidate, whose other scores are NaN and have no
        part in its mean; those that remained for longer rank first.
    scorer_ : callable
    n_splits_ : int
        Number of folds of the splitter.
    refit_time_ : float
        Seconds that the last fit took.

    See Also
    --------
    FineTunedRegressorCV : For regression targets.
    FineTunedClassifier : With ``freeze="auto"`` chooses the depth without a search.
    sktransfer.inspection.FreezeDepthDisplay : Draws the scores against the depth.

    Notes
    -----
    A :class:`TransferWarning` is only given for the last fit, with all samples. Where
    several depths are searched, it does not name parameters that have no effect at the
    chosen one.

    References
    ----------
    K. Jamieson and A. Talwalkar (2016). Non-stochastic Best Arm Identification and
    Hyperparameter Optimization. https://arxiv.org/abs/1502.07943

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier, FineTunedClassifierCV
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> network = FineTunedClassifier(
    ...     image_shape=(8, 8), value_range=(0, 16), image_size=32, max_epochs=2
    ... )
    >>> model = FineTunedClassifierCV(network, freeze=[8, "all"], cv=2)
    >>> model.fit(X[:60], y[:60]).score(X[60:120], y[60:120]) > 0.9
    True
    >>> model.cv_results_["n_folds"]
    array([2, 2])
    """

    _parameter_constraints: ClassVar[dict] = {
        **FineTunedSearch._parameter_constraints,
        "estimator": [FineTunedClassifier, None],
        "C": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
            "array-like",
            None,
        ],
    }
    _default = FineTunedClassifier
    score = FineTunedSearch.score  # not that of the mixin

    def __init__(
        self,
        estimator: FineTunedClassifier | None = None,
        *,
        freeze: Sequence | float | str = (0.33, 0.67, "all"),
        C: Sequence | float | str | None = None,
        cv: Any = 5,
        scoring: str | Callable | None = None,
        refit: bool = True,
        halving: bool = True,
        n_jobs: int | None = None,
    ):
        self.estimator = estimator
        self.freeze = freeze
        self.C = C
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.halving = halving
        self.n_jobs = n_jobs

    def _penalties(self):
        return {"C": self.C}

    def _precedence(self, candidate):
        C = candidate.get("C", "auto")
        return (0.0 if C == "auto" else C), str(candidate["freeze"])

    def predict_proba(self, X: types.Samples) -> NDArray[np.float64]:
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            As in :meth:`FineTunedClassifier.predict_proba`.
        """
        return self._best().predict_proba(X)

    def predict_log_proba(self, X: types.Samples) -> NDArray[np.float64]:
        """Compute the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
        """
        return self._best().predict_log_proba(X)

    def decision_function(self, X: types.Samples) -> NDArray[np.float64]:
        """Compute the scores of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,), float64
            As in :meth:`FineTunedClassifier.decision_function`.
        """
        return self._best().decision_function(X)
