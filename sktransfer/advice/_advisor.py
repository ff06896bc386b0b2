"""Which strategy to take with a backbone, before anything is trained."""

from html import escape
from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy.special import entr
from sklearn.base import BaseEstimator

from sktransfer._base import undone_on_error
from sktransfer._classifier import FineTunedClassifier
from sktransfer._regressor import FineTunedRegressor
from sktransfer.advice._costs import free_memory, measure
from sktransfer.advice._probes import knn_score
from sktransfer.advice._ranker import read_targets
from sktransfer.advice._reader import StageReader, choose_samples
from sktransfer.advice._scores import encode
from sktransfer.advice._similarity import similarity_of
from sktransfer.training import (
    LEVELS,
    LITERATURE,
    MEASURED,
    choose_level,
    lda_predictions,
)
from sktransfer.utils import Interval, StrOptions, spawn_seed

__all__ = ["TransferAdvisor"]

_RULES = {"measured": MEASURED, "literature": LITERATURE}
_LOOKED_AT = 32  # samples for the similarity
_SHARED = (
    "image_size image_shape value_range device memory random_state verbose"
).split()


class TransferAdvisor(BaseEstimator):
    """Say which strategy to take with a backbone, before anything is trained.

    It looks at how many samples and classes there are and how even these are, at how
    near the samples are to what the network was trained on, at probes of every stage,
    and at the time and memory that each strategy takes, by a measured forward and
    backward pass. ``freeze="auto"`` of the estimators goes by the same rules, but knows
    the number of samples only.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone, default="efficientnet_lite0"
        As in :func:`sktransfer.backbones.load_backbone`.
    budget : float or None, default=None
        Seconds that a fit may take, by the estimate. Strategies beyond it are not
        taken; if all are, features are extracted.
    scoring : {"probe"} or None, default="probe"
        "probe" compares how well the samples are told apart at each stage, on
        `max_samples` of them; None goes by the similarity of the domain instead,
        which is known of networks with BatchNorm.
    rules : {"measured", "literature"}, default="measured"
        What the number of samples means. "literature" freezes more: below 500 samples
        everything, to 2,000 early and middle stages, to 10,000 early ones.
    task : {"auto", "classification", "regression"}, default="auto"
        "auto" takes numbers with fractions, and several columns of whole numbers, for
        regression, and anything else for labels.
    max_epochs : int, default=10
        Of the estimates, and of what is recommended.
    max_samples : int, default=500
        For the probes.
    weights, image_size, image_shape, value_range, device, memory, \
random_state, verbose
        As in :class:`sktransfer.FineTunedClassifier`.

    Attributes
    ----------
    strategy_ : str
        What to do, as named in ``report_``.
    freeze_depth_ : int
        How many stages to freeze.
    recommended_ : FineTunedClassifier or FineTunedRegressor
        Configured so, not fitted.
    report_ : pandas.DataFrame
        One row a strategy: ``strategy``, ``freeze`` (stages), ``rule``, ``seconds`` and
        ``megabytes`` (of a training step) by estimate, ``taken``, and ``why`` or why
        not.
    figures_ : dict
        What it went by: samples, classes, their balance, image sizes, similarity,
        device and its free memory.
    probes_ : pandas.DataFrame or None
        Score of each stage.
    similarity_ : DomainSimilarity
    n_features_in_ : int
        Number of columns, if X is a table.

    See Also
    --------
    BackboneRanker : Which backbone.
    domain_similarity : How near samples are to what a network was trained on.

    References
    ----------
    .. [1] Yosinski, J., Clune, J., Bengio, Y., & Lipson, H. (2014). How transferable
       are features in deep neural networks? https://arxiv.org/abs/1411.1792
    .. [2] Kornblith, S., Shlens, J., & Le, Q. V. (2019). Do better ImageNet models
       transfer better? https://arxiv.org/abs/1805.08974

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.advice import TransferAdvisor
    >>> digits = load_digits()
    >>> advisor = TransferAdvisor(image_size=64, random_state=0)
    >>> advisor = advisor.fit(digits.images[:200], digits.target[:200])
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
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [Interval(Integral, 10, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        budget=None,
        scoring="probe",
        rules="measured",
        task="auto",
        max_epochs=10,
        max_samples=500,
        weights="default",
        image_size=None,
        image_shape=None,
        value_range="auto",
        device="auto",
        memory=None,
        random_state=None,
        verbose=0,
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

    @undone_on_error
    def fit(self, X, y=None):
        """Look at the samples and decide.

        Parameters
        ----------
        X : array-like of n_samples
            As in :class:`sktransfer.FineTunedClassifier`.
        y : array-like of shape (n_samples,), default=None
            May be left out if X is a Dataset with labels.

        Returns
        -------
        self : TransferAdvisor

        Raises
        ------
        ValueError
            If X or y cannot be read.
        """
        self._validate_params()
        reader = self._reader().read(X)
        reader.copy_columns(self)
        y, regression = read_targets(reader, y, self.task)
        self._regression = regression
        seed, n = spawn_seed(self.random_state), len(y)
        looked_at = choose_samples(n, _LOOKED_AT, None, seed)
        self.similarity_ = similarity_of(reader, looked_at)
        self.figures_ = self._figures(reader, X, y)
        probed = choose_samples(n, self.max_samples, None if regression else y, seed)
        self.probes_ = probes = None
        if self.scoring == "probe":
            probes = self._probe(reader, y, probed)
        self._decide(reader, n, probes)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = self._reader().__sklearn_tags__().input_tags
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "report_")

    def _reader(self):
        settings = {name: getattr(self, name) for name in ("weights", *_SHARED)}
        return StageReader(self.backbone, **settings)

    def _figures(self, reader, X, y):
        device = reader.device_
        figures = {
            "samples": len(y),
            "similarity": float(self.similarity_),
            "image_sizes": _image_sizes(reader, X),
            "device": str(device),
            "free_memory": free_memory(device),
        }
        if self._regression or y.ndim > 1:
            return figures
        shares = np.unique(y, return_counts=True)[1] / len(y)
        # 1 where classes are equally large; near 0 where nearly all samples are one's.
        balance = entr(shares).sum() / np.log(max(len(shares), 2))
        counts = {"classes": len(shares), "balance": float(balance)}
        return figures | counts | {"smallest_class": round(shares.min() * len(y))}

    def _probe(self, reader, y, rows):
        """Score each stage; returns the last, the best, and the error of their gap."""
        names, y = reader.backbone_.stage_names, y[rows]
        features = reader.features(names, rows)
        if self._regression or y.ndim > 1:
            Y = y.astype(np.float64)
            varied = Y.reshape(len(Y), -1).std(axis=0).all()
            scores = [
                knn_score(features[n], Y, regression=True) if varied else 0.0
                for n in names
            ]
            self.probes_ = pd.DataFrame({"stage": names, "score": scores})
            return scores[-1], max(scores), 1 / np.sqrt(len(y))
        codes = encode(y)
        right = np.stack([lda_predictions(features[n], codes) == codes for n in names])
        scores = right.mean(axis=1)
        self.probes_ = pd.DataFrame({"stage": names, "score": scores})
        best = scores.argmax()
        gap = right[best].astype(float) - right[-1]
        error = max(gap.std(), 0.1) / np.sqrt(len(y))
        return float(scores[-1]), float(scores[best]), float(error)

    def _decide(self, reader, n, probes):
        """Choose a level that can be afforded; sets what is fitted."""
        backbone, balance = reader.backbone_, self.figures_.get("balance", 1.0)
        n_stages = len(backbone.stages)
        levels, depths = _levels_of(n_stages)
        costs = measure(reader, [backbone.boundary(depth) for depth in depths])
        costs = [costs[backbone.boundary(depth)] for depth in depths]
        # Samples of one class tell little of the others.
        counted = max(2, round(n * balance))
        level, why = choose_level(
            counted,
            similarity=self._known_similarity(),
            probes=probes,
            rules=_RULES[self.rules],
        )
        wanted = depths.index(round(LEVELS[level].share * n_stages))
        if counted != n:
            uneven = f"{n:,} samples of uneven classes, as {counted:,} of even ones"
            why = why.replace(f"{counted:,} samples", uneven, 1)
        seconds = [cost.seconds(n, self.max_epochs) for cost in costs]
        refused = [self._refusal(*pair) for pair in zip(costs, seconds, strict=True)]
        affordable = [i for i in range(wanted, len(levels)) if not refused[i]]
        taken = affordable[0] if affordable else len(levels) - 1
        if taken != wanted:
            why = f"{refused[wanted]}; without that, {levels[wanted].name}: {why}"
        if refused[taken]:
            why = f"{refused[taken]}, but nothing takes less; {why}"
        rows = [
            {
                "strategy": level.name,
                "freeze": depths[i],
                "rule": _rule(LEVELS.index(level), _RULES[self.rules]),
                "seconds": seconds[i],
                "megabytes": costs[i].memory / 1e6,
                "taken": i == taken,
                "why": why if i == taken else refused[i] or _not_taken(i, taken),
            }
            for i, level in enumerate(levels)
        ]
        self.report_ = pd.DataFrame(rows)
        self.strategy_, self.freeze_depth_ = levels[taken].name, depths[taken]
        self.recommended_ = self._recommend(depths[taken], n_stages)

    def _known_similarity(self):
        """Return the similarity that the rules are made for; None of another kind."""
        found = self.similarity_
        return found.similarity if found.source == "batch norm" else None

    def _refusal(self, cost, seconds):
        """Say why a strategy cannot be afforded; empty if it can."""
        if self.budget is not None and seconds > self.budget:
            return f"{seconds:.3g} s exceed the budget of {self.budget:g} s"
        free = self.figures_["free_memory"]
        if free is not None and cost.memory > free:
            return f"{cost.memory:,} bytes exceed the {free:,} that are free"
        return ""

    def _recommend(self, depth, n_stages):
        """Return the estimator for a depth, not fitted."""
        kind = FineTunedRegressor if self._regression else FineTunedClassifier
        settings = {name: getattr(self, name) for name in ("weights", *_SHARED)}
        freeze = "all" if depth == n_stages else depth
        return kind(
            self.backbone, freeze=freeze, max_epochs=self.max_epochs, **settings
        )

    def _repr_html_(self):
        """Return the advice as HTML; before `fit`, what scikit-learn shows."""
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


def _image_sizes(reader, X):
    """Return the median height and width of some samples; None of rows."""
    if reader.preprocessing_.kind != "image":
        return None
    if getattr(reader, "image_shape", None) is not None:
        return tuple(reader.image_shape[:2])
    if getattr(X, "ndim", 0) >= 3:
        shape = tuple(X.shape[1:])
        is_first = len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] > 4
        return shape[1:] if is_first else shape[:2]
    if not isinstance(X, list | np.ndarray):
        return None
    samples = reader.samples_
    sizes = [samples[i].size[::-1] for i in range(min(len(samples), 16))]
    return tuple(int(side) for side in np.median(sizes, axis=0))


def _levels_of(n_stages):
    """Return the levels of a network, each of another depth, and these depths."""
    depths = [round(level.share * n_stages) for level in LEVELS]
    found = dict(zip(depths[::-1], LEVELS[::-1], strict=True))  # the first one wins
    found |= {0: LEVELS[0], n_stages: LEVELS[-1]}
    return [found[depth] for depth in sorted(found)], sorted(found)


def _rule(level, rules):
    """Say for how many samples a level is."""
    sizes = [0, *(size for size, _ in rules)]
    for low, (high, of_rule) in zip(sizes, rules, strict=False):
        if of_rule == level:
            return f"{low:,} to {high:,} samples" if low else f"under {high:,} samples"
    return f"from {sizes[-1]:,} samples" if level == 0 else "a similar domain"


def _not_taken(level, taken):
    return "trains more than is needed" if level < taken else "freezes more than needed"
