"""Which backbone, and which of its stages, suits a task: scores without training."""

import time
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from sktransfer._base import as_array, undone_on_error
from sktransfer.advice._probes import knn_score, lda_score, n_leep
from sktransfer.advice._reader import StageReader, choose_samples, probabilities
from sktransfer.advice._scores import h_score, leep, logme
from sktransfer.backbones import Backbone, stated_licence
from sktransfer.utils import (
    Interval,
    StrOptions,
    check_consistent_length,
    near_matches,
    spawn_seed,
    type_of_target,
)

__all__ = ["BackboneRanker", "is_regression", "read_targets"]

_SCORERS = {
    "logme": logme,
    "h_score": h_score,
    "leep": leep,
    "n_leep": n_leep,
    "lda": lda_score,
    "knn": knn_score,
}
_OF_NUMBERS = ("knn", "logme")  # that are defined for regression
_COLUMNS = "backbone stage score seconds parameters multiply_adds licence".split()


class BackboneRanker(BaseEstimator):
    """Rank pretrained networks, and their stages, for a task without training any.

    Samples go once through each network; a score says how well the features of each
    stage suit the targets. The user guide says how well each score predicts the
    accuracy after training, and what it takes.

    Parameters
    ----------
    backbones : list of str, torch.nn.Module or Backbone
        As in :func:`sktransfer.backbones.load_backbone`.
    scorer : {"auto", "lda", "knn", "logme", "n_leep", "h_score", "leep"} or callable, \
default="auto"
        The functions :func:`lda_score`, :func:`knn_score`, and so on; "auto" is "lda"
        for labels and "knn" for numbers and independent labels, for which there are
        "knn" and "logme". "leep" scores the output of the pretrained classifier, and no
        stage; it leaves out backbones without one. A callable goes from features
        (n_samples, n_features) and targets to a number, the more the better.
    stages : "all", "last" or list of int or str, default="all"
        Which stages are scored: by position (0 is the first, -1 the last) or name,
        which each backbone must have.
    pooling : {"avg", "max", "avgmax", "cls", "flatten"}, default="avg"
        From activations to features, as in
        :class:`sktransfer.PretrainedFeatureExtractor`.
    task : {"auto", "classification", "regression"}, default="auto"
        "auto" takes numbers with fractions, and several columns of whole numbers, for
        regression, and anything else for labels.
    max_samples : int or None, default=2000
        More samples than these are thinned out, class by class.
    image_size, image_shape, value_range, batch_size, device, memory
        As in :class:`sktransfer.PretrainedFeatureExtractor`, for all backbones.
    random_state : int, RandomState instance or None, default=None
        Seeds the choice of samples.
    verbose : int, default=0
        Shows a progress bar for each backbone.

    Attributes
    ----------
    scores_ : pandas.DataFrame
        One row a backbone and stage: ``backbone``, ``stage``, ``score``, ``seconds``
        (reading, the network up to there, and the score), ``parameters`` and
        ``multiply_adds`` (up to there; the latter for one sample) and ``licence`` of
        the weights.
    ranking_ : list of str
        Names of the backbones by their best stages, the best first.
    best_backbone_ : str, torch.nn.Module or Backbone
        As it was given.
    best_stage_ : str
        Of the best backbone.
    best_score_ : float
    scorer_ : str or callable
        What "auto" was.

    See Also
    --------
    RankingDisplay : Draws the scores.
    TransferAdvisor : Which strategy to take with one backbone.

    References
    ----------
    .. [1] You, K., Liu, Y., Zhang, Z., Wang, J., Jordan, M. I., & Long, M. (2022).
       Ranking and tuning pre-trained models: A new paradigm for exploiting model hubs.
       *Journal of Machine Learning Research*, 23. https://arxiv.org/abs/2110.10545

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.advice import BackboneRanker
    >>> digits = load_digits()
    >>> ranker = BackboneRanker(["efficientnet_lite0"], image_size=64)
    >>> ranker.fit(digits.images[:100], digits.target[:100]).best_stage_
    'blocks.4'
    """

    _parameter_constraints = {
        "backbones": [list, tuple],
        "scorer": [StrOptions({"auto", *_SCORERS}), callable],
        "stages": [StrOptions({"all", "last"}), list, tuple],
        "pooling": [StrOptions({"avg", "max", "avgmax", "cls", "flatten"})],
        "task": [StrOptions({"auto", "classification", "regression"})],
        "max_samples": [Interval(Integral, 2, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbones,
        *,
        scorer="auto",
        stages="all",
        pooling="avg",
        task="auto",
        max_samples=2000,
        image_size=None,
        image_shape=None,
        value_range="auto",
        batch_size="auto",
        device="auto",
        memory=None,
        random_state=None,
        verbose=0,
    ):
        self.backbones = backbones
        self.scorer = scorer
        self.stages = stages
        self.pooling = pooling
        self.task = task
        self.max_samples = max_samples
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    @undone_on_error
    def fit(self, X, y=None):
        """Score every backbone.

        Parameters
        ----------
        X : array-like of n_samples
            As in :class:`sktransfer.FineTunedClassifier`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            May be left out if X is a Dataset with labels.

        Returns
        -------
        self : BackboneRanker

        Raises
        ------
        ValueError
            If there are no backbones, one has no such stage, or the score is not
            defined for the targets.
        """
        self._validate_params()
        names, seed = self._check_backbones(), spawn_seed(self.random_state)
        tables = [
            self._score_backbone(given, name, X, y, seed)
            for given, name in zip(self.backbones, names, strict=True)
        ]
        if not any(tables):
            raise ValueError(
                "`scorer='leep'` needs a backbone with the classifier that it was "
                f"pretrained with. Got {names}; take scorer='n_leep', which needs none."
            )
        rows = [row for table in tables for row in table]
        self.scores_ = pd.DataFrame(rows, columns=_COLUMNS)
        best = self.scores_.groupby("backbone", sort=False)["score"].max()
        self.ranking_ = best.sort_values(ascending=False, kind="stable").index.tolist()
        first = self.scores_.loc[self.scores_["score"].idxmax()]
        self.best_backbone_ = self.backbones[names.index(first["backbone"])]
        self.best_stage_, self.best_score_ = first["stage"], float(first["score"])
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        for given in self.backbones[:1]:
            reader = StageReader(given, **self._reading())
            tags.input_tags = reader.__sklearn_tags__().input_tags
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "scores_")

    def _check_backbones(self):
        """Return a name for each backbone."""
        if not len(self.backbones):
            raise ValueError("`backbones` must hold at least one backbone. Got none.")
        names = []
        for given in self.backbones:
            name = given if isinstance(given, str) else _name_of(given)
            same = sum(n.partition(" #")[0] == name for n in names)
            names.append(f"{name} #{same + 1}" if same else name)
        return names

    def _score_backbone(self, given, name, X, y, seed):
        """Return the rows of a backbone (list of dict); none without a classifier."""
        began = time.perf_counter()
        reader = StageReader(given, **self._reading()).read(X)
        reader.copy_columns(self)
        y, regression = read_targets(reader, y, self.task)
        if y.ndim > 1 and not regression:  # independent labels: 0 or 1 each
            y, regression = y.astype(np.float64), True
        labels = None if regression else y
        rows = choose_samples(len(y), self.max_samples, labels, seed)
        self.scorer_ = self.scorer
        if isinstance(self.scorer, str) and self.scorer == "auto":
            self.scorer_ = "knn" if regression else "lda"
        score, stages = self._scoring(reader, regression)
        if not stages:
            return []
        features = reader.features(stages, rows, self.pooling)
        passing = time.perf_counter() - began
        table, backbone = [], reader.backbone_
        last = backbone.in_order(stages)[-1]
        whole = max(1, backbone.multiply_adds("input", last))
        for stage in stages:
            began = time.perf_counter()
            found = float(score(features[stage], y[rows]))
            seconds = time.perf_counter() - began
            n = int(backbone.multiply_adds("input", stage))
            prefix = backbone.section("input", stage)
            row = {
                "backbone": name,
                "stage": stage,
                "score": found,
                "seconds": seconds + passing * n / whole,
                "parameters": sum(p.numel() for p in prefix.parameters()),
                "multiply_adds": n,
                "licence": stated_licence(backbone.licence),
            }
            table.append(row)
        return table

    def _reading(self):
        names = (
            "image_size image_shape value_range batch_size device memory "
            "random_state verbose"
        )
        return {name: getattr(self, name) for name in names.split()}

    def _scoring(self, reader, regression):
        """Return the score, and the boundaries that it is made for."""
        if self.scorer_ == "leep" and not regression:
            stages = ["output"] if reader.has_classifier() else []
            return lambda outputs, y: leep(probabilities(outputs), y), stages
        stages = self._stages(reader.backbone_)
        if callable(self.scorer_):
            return self.scorer_, stages
        score = _SCORERS[self.scorer_]
        if not regression:
            return score, stages
        if self.scorer_ not in _OF_NUMBERS:
            raise ValueError(
                f"`scorer` must be one of {[*_OF_NUMBERS]} or a callable for numbers "
                f"to predict and independent labels. Got {self.scorer_!r}; labels that "
                "exclude each other go in one column, with task='classification'."
            )
        return lambda features, y: score(features, y, regression=True), stages

    def _stages(self, backbone):
        names = backbone.stage_names
        if isinstance(self.stages, str):
            return names if self.stages == "all" else names[-1:]
        return [_resolve(stage, backbone) for stage in self.stages]


def _name_of(given):
    if isinstance(given, Backbone):
        return given.name
    return getattr(given, "__name__", type(given).__name__)


def _resolve(stage, backbone):
    names = backbone.stage_names
    if isinstance(stage, str) and stage in backbone.boundaries:
        return stage
    if isinstance(stage, Integral) and -len(names) <= stage < len(names):
        return names[stage]
    raise ValueError(
        f"`stages` must hold ints in [{-len(names)}, {len(names) - 1}], or stages or "
        f"blocks of {backbone.name}: {names}. Got {stage!r}."
        f"{near_matches(str(stage), list(backbone.boundaries))}"
    )


def read_targets(reader, y, task="auto"):
    """Return targets as an array, and whether they are numbers to predict.

    Parameters
    ----------
    reader : StageReader
        That has read X.
    y : array-like or None
        None for the labels of a Dataset.
    task : {"auto", "classification", "regression"}, default="auto"

    Returns
    -------
    y : ndarray of shape (n_samples, ...)
    regression : bool

    Raises
    ------
    ValueError
        If there are no targets, or other than samples.
    """
    y = reader.samples_.labels if y is None else as_array(y)
    if y is None:
        raise ValueError(
            f"`y` is needed to fit {type(reader).__name__}: X is no Dataset with "
            "labels. Got None."
        )
    check_consistent_length(reader.samples_, y)
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if task == "auto":
        return y, is_regression(y)
    return y, task == "regression"


def is_regression(y):
    """Say whether targets look like numbers to predict (bool)."""
    kind = type_of_target(y)
    several = kind == "multiclass-multioutput" and np.asarray(y).dtype.kind in "iufb"
    return kind.startswith("continuous") or several
