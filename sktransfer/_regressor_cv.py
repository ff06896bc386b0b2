"""A fine-tuned regressor that chooses its depth by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, ClassVar

from sklearn.base import MultiOutputMixin, RegressorMixin

from sktransfer._cv import FineTunedSearch
from sktransfer._regressor import FineTunedRegressor
from sktransfer.utils import Interval, StrOptions


class FineTunedRegressorCV(MultiOutputMixin, RegressorMixin, FineTunedSearch):
    """Fine-tuned regressor that chooses `freeze` and `alpha` by cross-validation.

    It works as :class:`FineTunedClassifierCV` does: after each fold only the best third
    of the candidates remain.

    Parameters
    ----------
    estimator : FineTunedRegressor, default=None
        Estimator of which clones are fitted; by default ``FineTunedRegressor()``. Its
        own `freeze` has no effect.
    freeze : list, or one int, float or str, default=(0.33, 0.67, "all")
        Values of `freeze` to choose from, see :class:`FineTunedRegressor`. The default
        is a third, two thirds and all of the stages.
    alpha : list, float, "auto" or None, default=None
        Values of `alpha` to choose from; None leaves that of the estimator.
    cv : int, splitter, iterable of splits or None, default=5
        Folds, as in :class:`~sklearn.model_selection.GridSearchCV`: an int is a number
        of folds without shuffling.
    scoring : str, callable or None, default=None
        Scorer, for which higher is better, see
        :func:`sklearn.metrics.get_scorer_names`. By default the coefficient of
        determination, R².
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
    best_estimator_ : FineTunedRegressor
        The best candidate, fitted to all samples. All of its fitted attributes, such as
        ``freeze_depth_``, ``alpha_``, ``model_`` and ``history_``, are also attributes
        of this estimator.
    best_params_ : dict
        Its parameters that were searched. Of equal scores, those that train fewer
        parameters are chosen, and then the larger alpha.
    best_score_ : float
        Its mean score over the folds that it was trained in.
    best_index_ : int
        Its position in ``cv_results_``.
    cv_results_ : dict of arrays
        As in :class:`FineTunedClassifierCV`.
    scorer_ : callable
    n_splits_ : int
        Number of folds of the splitter.
    refit_time_ : float
        Seconds that the last fit took.

    See Also
    --------
    FineTunedClassifierCV : For classes.
    FineTunedRegressor : With ``freeze="auto"`` chooses the depth without a search.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedRegressor, FineTunedRegressorCV
    >>> X, y = load_digits(return_X_y=True)
    >>> network = FineTunedRegressor(
    ...     image_shape=(8, 8), value_range=(0, 16), image_size=32
    ... )
    >>> model = FineTunedRegressorCV(network, freeze="all", alpha=[10, 1000], cv=2)
    >>> model.fit(X[:200], y[:200]).best_params_
    {'alpha': 10, 'freeze': 'all'}
    """

    _parameter_constraints: ClassVar[dict] = {
        **FineTunedSearch._parameter_constraints,
        "estimator": [FineTunedRegressor, None],
        "alpha": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="left"),
            "array-like",
            None,
        ],
    }
    _default = FineTunedRegressor
    score = FineTunedSearch.score  # not that of the mixin

    def __init__(
        self,
        estimator: FineTunedRegressor | None = None,
        *,
        freeze: Sequence | float | str = (0.33, 0.67, "all"),
        alpha: Sequence | float | str | None = None,
        cv: Any = 5,
        scoring: str | Callable | None = None,
        refit: bool = True,
        halving: bool = True,
        n_jobs: int | None = None,
    ):
        self.estimator = estimator
        self.freeze = freeze
        self.alpha = alpha
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.halving = halving
        self.n_jobs = n_jobs

    def _penalties(self):
        return {"alpha": self.alpha}

    def _precedence(self, candidate):
        alpha = candidate.get("alpha", "auto")
        return (0.0 if alpha == "auto" else -alpha), str(candidate["freeze"])
