"""Meta-estimator that adapts a regressor to a target domain."""

from sklearn.base import RegressorMixin

from sktransfer._regressor import FineTunedRegressor
from sktransfer.adaptation._adapted import DomainAdaptedEstimator
from sktransfer.adaptation._domains import masked_targets

__all__ = ["DomainAdaptedRegressor"]


class DomainAdaptedRegressor(RegressorMixin, DomainAdaptedEstimator):
    """Regressor for a target domain, from the targets of a source domain alone.

    A meta-estimator: :class:`~sktransfer.FineTunedRegressor` gets the samples of both
    domains in one `fit`. Frozen stages are computed once for either.

    Parameters
    ----------
    estimator : FineTunedRegressor, default=None
        What is fitted, as a clone; None stands for ``FineTunedRegressor()``.
    method : str, AdaptationMethod or callable, default="mmd"
        As in :class:`DomainAdaptedClassifier`: "none", "adabn", "coral", "mmd" or
        "dann". All but "none" need stages to train.
    style : "auto" or bool, default="auto"
        As in :class:`DomainAdaptedClassifier`.

    Attributes
    ----------
    estimator_ : FineTunedRegressor
        The fitted inner estimator. Its ``model_``, ``module_``, ``history_`` and
        ``model_card_`` are also attributes of this estimator.
    style_ : TargetStyle or None
        What source images were moved towards the target by.

    See Also
    --------
    DomainAdaptedClassifier : For classes.
    sktransfer.FineTunedRegressor : Where target samples have values.

    Notes
    -----
    Masked values are NaN; of several outputs, rows that are NaN throughout.
    """

    _default = FineTunedRegressor
    _find_masked = staticmethod(lambda y, y_source=None: masked_targets(y))

    score = DomainAdaptedEstimator.score  # not that of the mixin

    def __init__(self, estimator=None, method="mmd", *, style="auto"):
        self.estimator = estimator
        self.method = method
        self.style = style

    def _check_method(self, method):
        if method.needs_classes or method.needs_labels:
            raise ValueError(
                f"`method={method.name!r}` is for classes. A regressor can take "
                "'none', 'adabn', 'coral', 'mmd' or 'dann'."
            )
