"""Recommendation of a training strategy, before anything is trained."""

from collections.abc import Sequence
from html import escape
from numbers import Integral, Real
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from sktransfer._base import restore_on_error
from sktransfer._classifier import FineTunedClassifier
from sktransfer._regressor import FineTunedRegressor
from sktransfer.advice._costs import free_memory, measure
from sktransfer.advice._probes import knn_score
from sktransfer.advice._ranker import read_targets
from sktransfer.advice._reader import (
    StageReader,
    choose_samples,
    class_balance,
    median_image_size,
)
from sktransfer.advice._scores import encode
from sktransfer.advice._similarity import similarity_of
from sktransfer.backbones import BackboneLike
from sktransfer.compute import resolve_device
from sktransfer.fitting import (
    EPOCHS,
    LEVELS,
    LITERATURE,
    MEASURED,
    Probed,
    choose_epochs,
    choose_level,
    rows_to_probe,
)
from sktransfer.inputs import modality_of
from sktransfer.training import lda_predictions
from sktransfer.utils import Interval, StrOptions, spawn_seed, types

_RULES = {"measured": MEASURED, "literature": LITERATURE}
_N_SIMILARITY = 32  # maximum number of samples for the similarity
_SHARED = (
    "image_size image_shape value_range device memory random_state verbose"
).split()


class TransferAdvisor(BaseEstimator):
    """Recommend how to train with a backbone, before anything is trained.

    The recommendation is based on the number of samples, a linear probe of the
    features, and the time and memory of each strategy, estimated from measured forward
    and backward passes. ``freeze="auto"`` of the estimators follows the same rules,
    without the costs. The accuracy that each strategy is expected to reach, the
    similarity to the training samples of the network and probes of all stages are
    reported for the user.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone, default="efficientnet_lite0"
        Backbone, as in :func:`sktransfer.backbones.load_backbone`.
    budget : float or None, default=None
        Maximum estimated time of a fit in seconds. If all strategies exceed it,
        extracting features is recommended.
    scoring : {"probe"} or None, default="probe"
        Whether to score a probe at each stage. If that of the last one is nearly
        perfect, extracting features is recommended.
    rules : {"measured", "literature"}, default="measured"
        Rules for the number of samples. "measured" rules come from benchmarks, see the
        user guide. "literature" freezes more: all stages below 500 samples, early and
        middle stages below 2,000, and early stages below 10,000.
    task : {"auto", "classification", "regression"}, default="auto"
        "auto" means regression if y is continuous or has several columns of integers,
        and classification otherwise.
    max_epochs : int or "auto", default="auto"
        That of the recommended estimator, which the estimates assume.
    max_samples : int, default=1000
        Maximum number of samples for the probes; more are subsampled.
    weights, image_size, image_shape, value_range, device, memory, \
random_state, verbose
        As in :class:`sktransfer.FineTunedClassifier`.

    Attributes
    ----------
    strategy_ : str
        Name of the recommended strategy, as in ``report_``.
    freeze_depth_ : int
        Recommended number of stages to freeze.
    recommended_ : FineTunedClassifier or FineTunedRegressor
        Estimator with the recommended parameters, not fitted.
    report_ : pandas.DataFrame
        One row per strategy: ``strategy``; ``freeze``, the number of frozen stages;
        ``rule``, when the rules choose it; ``score`` and ``error``, the estimated
        accuracy on other samples and its standard error, which are NaN without probes
        and for other targets than classes; ``seconds``, the estimated time of a fit;
        ``megabytes``, the estimated memory of a training step; ``taken``, whether it is
        recommended; and ``why``, the reason.
    evidence_ : dict
        What the recommendation is based on: the numbers of samples and of classes, the
        balance of the classes, image sizes, similarity, the device and its free memory.
    probes_ : pandas.DataFrame or None
        Score of the probe at each stage; None with ``scoring=None``.
    similarity_ : DomainSimilarity
        Similarity of the samples to the training samples of the network.
    n_features_in_ : int
        Number of columns, if X is a table.

    See Also
    --------
    BackboneRanker : Compares backbones.
    domain_similarity : Measures the similarity to the training samples of a network.

    References
    ----------
    .. [1] J. Yosinski et al. (2014). How transferable are features in deep neural
       networks? https://arxiv.org/abs/1411.1792
    .. [2] S. Kornblith et al. (2019). Do better ImageNet models transfer better?
       https://arxiv.org/abs/1805.08974

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.advice import TransferAdvisor
    >>> digits = load_digits()
    >>> advisor = TransferAdvisor(image_size=64, random_state=0)
    >>> advisor = advisor.fit(digits.images[:200] / 16, digits.target[:200])
    >>> advisor.strategy_, advisor.freeze_depth_
    ('freeze early stages', 3)
    >>> advisor.recommended_
    FineTunedClassifier(freeze=3, image_size=64, random_state=0)
    """

    _parameter_constraints = {
        "budget": [Interval(Real, 0, None, closed="neither"), None],
        "scoring": [StrOptions({"probe"}), None],
        "rules": [StrOptions({*_RULES})],
        "task": [StrOptions({"auto", "classification", "regression"})],
        "max_epochs": EPOCHS,
        "max_samples": [Interval(Integral, 10, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbone: BackboneLike = "efficientnet_lite0",
        *,
        budget: float | None = None,
        scoring: str | None = "probe",
        rules: str = "measured",
        task: str = "auto",
        max_epochs: int | str = "auto",
        max_samples: int = 1000,
        weights: types.Weights = "default",
        image_size: types.ImageSize | None = None,
        image_shape: Sequence[int] | None = None,
        value_range: types.ValueRange = "auto",
        device: types.Device = "auto",
        memory: types.Memory | None = None,
        random_state: types.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.budget = budget
        self.scoring = scoring
        self.rules = rules
        self.task = task
        self.max_epochs = max_epochs
        self.max_samples = max_samples
        self.weights = weights
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.device = device
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    @restore_on_error
    def fit(self, X: types.Samples, y: ArrayLike | None = None) -> Self:
        """Recommend a strategy for some samples.

        Parameters
        ----------
        X : array-like of n_samples
            Samples, as in :class:`sktransfer.FineTunedClassifier`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Classes or regression targets. May be omitted if X is a Dataset with labels.

        Returns
        -------
        self : TransferAdvisor

        Raises
        ------
        ValueError
            If a parameter is out of range, or X or y cannot be read.
        """
        self._validate_params()
        reader = self._reader().read(X)
        reader.copy_columns(self)
        backbone, samples = reader.backbone_, reader.samples_
        y, regression = read_targets(samples, y, self.task)
        device, seed = resolve_device(self.device), spawn_seed(self.random_state)
        similarity = self._similarity(reader, device, seed)
        evidence = _evidence(samples, backbone.preprocessing, device, similarity)
        evidence |= {} if regression or y.ndim > 1 else class_balance(y)
        probes, probed = self._probe(reader, y, regression)
        levels, depths = _levels_of(len(backbone.stages))
        boundaries = [backbone.boundary(depth) for depth in depths]
        measured = measure(backbone, samples, boundaries, device)
        costs = [measured[name] for name in boundaries]
        wanted, why = self._choose_depth(depths, len(samples), probed)
        modality = modality_of(backbone=backbone.preprocessing)
        how = self.max_epochs, len(samples), modality.most_seen
        seconds = [cost.seconds(len(samples), choose_epochs(*how)) for cost in costs]
        report = self._report(levels, depths, costs, seconds, evidence, wanted, why)
        for i, column in enumerate(("score", "error")):
            removed = probed, modality.removed_errors
            expected = [_expected(level, *removed)[i] for level in levels]
            report.insert(3 + i, column, expected)
        self.report_ = report
        taken = self.report_[self.report_["taken"]].iloc[0]
        self.similarity_, self.evidence_, self.probes_ = similarity, evidence, probes
        self.strategy_, self.freeze_depth_ = taken["strategy"], int(taken["freeze"])
        self.recommended_ = self._estimator(regression, len(backbone.stages))
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = self._reader().__sklearn_tags__().input_tags
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "report_")

    def _reader(self):
        return StageReader(self.backbone, **self._shared())

    def _shared(self):
        return {name: getattr(self, name) for name in ("weights", *_SHARED)}

    def _estimator(self, regression, n_stages):
        """Return the recommended estimator, not fitted."""
        kind = FineTunedRegressor if regression else FineTunedClassifier
        freeze = "all" if self.freeze_depth_ == n_stages else self.freeze_depth_
        settings = {"freeze": freeze, "max_epochs": self.max_epochs, **self._shared()}
        return kind(self.backbone, **settings)

    def _similarity(self, reader, device, seed):
        """Measure the similarity of some samples (DomainSimilarity)."""
        rows = choose_samples(len(reader.samples_), _N_SIMILARITY, None, seed)
        return similarity_of(
            reader.backbone_,
            reader.samples_.take(rows),
            reader.features(reader.backbone_.stage_names, rows),
            has_classifier=reader.has_classifier(),
            device=device,
        )

    def _probe(self, reader, y, regression):
        """Return the scores of all stages (DataFrame), and the hits of the last one.

        The hits are what `choose_level` takes; there are none for regression and
        multilabel targets. Without probes, both are None.
        """
        if self.scoring is None:
            return None, None
        rows = rows_to_probe(len(y), self.max_samples)
        names = reader.backbone_.stage_names
        features, y = reader.features(names, rows), y[rows]
        if regression or y.ndim > 1:
            scores, hits = [_score_targets(features[name], y) for name in names], None
        else:
            codes = encode(y)
            right = [lda_predictions(features[name], codes) == codes for name in names]
            scores, hits = np.mean(right, axis=1), Probed(right[-1], codes)
        return pd.DataFrame({"stage": names, "score": scores}), hits

    def _report(self, levels, depths, costs, seconds, evidence, wanted, why):
        """Choose the strategy, and return ``report_``.

        The strategy is the `wanted` one or, if it is too expensive, the next one that
        is not and freezes more stages.
        """
        refused = [
            _why_too_expensive(*pair, self.budget, evidence["free_memory"])
            for pair in zip(costs, seconds, strict=True)
        ]
        affordable = [i for i in range(wanted, len(levels)) if not refused[i]]
        taken = affordable[0] if affordable else len(levels) - 1
        if taken != wanted:
            why = f"{refused[wanted]}; without that, {levels[wanted].name}: {why}"
        if refused[taken]:
            why = f"{refused[taken]}, but nothing takes less; {why}"
        less, more = "trains more than is needed", "freezes more than needed"
        reasons = [r or (less if i < taken else more) for i, r in enumerate(refused)]
        reasons[taken] = why
        return pd.DataFrame(
            {
                "strategy": [level.name for level in levels],
                "freeze": depths,
                "rule": [_rule(level, _RULES[self.rules]) for level in levels],
                "seconds": seconds,
                "megabytes": [cost.memory / 1e6 for cost in costs],
                "taken": [i == taken for i in range(len(levels))],
                "why": reasons,
            }
        )

    def _choose_depth(self, depths, n_samples, probed):
        """Return the index of the depth that the rules choose, and the reason."""
        level, why = choose_level(n_samples, probed=probed, rules=_RULES[self.rules])
        return depths.index(round(LEVELS[level].share * depths[-1])), why

    def _repr_html_(self):
        """Return the recommendation as HTML; before `fit`, scikit-learn's diagram."""
        if not self.__sklearn_is_fitted__():
            return super()._repr_html_()
        table = self.report_.to_html(
            index=False, float_format="{:.3g}".format, border=0
        )
        taken = self.report_.set_index("strategy").loc[self.strategy_]
        return (
            f"<div><p><b>{escape(self.strategy_)}</b>, freezing "
            f"{self.freeze_depth_} stages: {escape(taken['why'])}</p>{table}"
            f"<p><code>{escape(repr(self.recommended_))}</code></p></div>"
        )


def _evidence(samples, preprocessing, device, similarity):
    """Return the evidence that does not depend on y (dict)."""
    return {
        "samples": len(samples),
        "similarity": float(similarity),
        "image_sizes": median_image_size(samples, preprocessing),
        "device": str(device),
        "free_memory": free_memory(device),
    }


def _expected(level, probed, removed_errors):
    """Return the estimated score of a level and its error, NaN if unknown."""
    if probed is None:
        return np.nan, np.nan
    return probed.expected(LEVELS.index(level), removed_errors)


def _score_targets(features, y):
    """Score a stage for regression or multilabel targets by nearest neighbours."""
    Y = y.astype(np.float64)
    varied = Y.reshape(len(Y), -1).std(axis=0).all()
    return knn_score(features, Y, regression=True) if varied else 0.0


def _why_too_expensive(cost, seconds, budget, free_memory):
    """Return why a strategy is too expensive, or an empty text if it is not."""
    if budget is not None and seconds > budget:
        return f"{seconds:.3g} s exceed the budget of {budget:g} s"
    if free_memory is not None and cost.memory > free_memory:
        return f"{cost.memory:,} bytes exceed the {free_memory:,} that are free"
    return ""


def _levels_of(n_stages):
    """Return the levels that freeze different numbers of stages, and these numbers."""
    depths = [round(level.share * n_stages) for level in LEVELS]
    found = dict(
        zip(depths[::-1], LEVELS[::-1], strict=True)
    )  # of equal depths, the first one is kept
    found |= {0: LEVELS[0], n_stages: LEVELS[-1]}
    return [found[depth] for depth in sorted(found)], sorted(found)


def _rule(level, rules):
    """Describe for which numbers of samples the rules choose a level."""
    index, last = LEVELS.index(level), rules[-1][0]
    for low, (high, of_rule) in zip([0, *(n for n, _ in rules)], rules, strict=False):
        if of_rule == index:
            return f"{low:,} to {high:,} samples" if low else f"under {high:,} samples"
    if index == len(LEVELS) - 1:
        return "a nearly perfect probe"
    return f"from {last:,} samples" if index == 0 else "a smaller budget"
