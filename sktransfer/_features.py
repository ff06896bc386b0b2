"""Features of a pretrained network, as a transformer."""

import warnings
from itertools import pairwise
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sktransfer._base import BackboneEstimator, undone_on_error
from sktransfer._persistence import slim_state, whole_state
from sktransfer.activations import Pass, Pool, Target, check_pooling
from sktransfer.compute import own_torch_state
from sktransfer.export import StackedFeatures
from sktransfer.inputs import find_unreadable
from sktransfer.utils import Interval, StrOptions, check_is_fitted

__all__ = ["PretrainedFeatureExtractor"]

_NAMED = 5  # unreadable samples that a warning names


class PretrainedFeatureExtractor(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BackboneEstimator
):
    """Features that a pretrained network computes, at any depth.

    Nothing is learned from X: the samples go through the first stages of the backbone,
    and what comes out is pooled to one vector a sample. How deep to go (`stage`) and
    how finely to pool (`pool_size`) are hyperparameters: the last stage is the most
    specialised in what the network was trained on.

    Parameters
    ----------
    backbone : str, torch.nn.Module, callable or Backbone, default="efficientnet_lite0"
        See :func:`sktransfer.backbones.load_backbone`. The default's ImageNet weights
        are installed with sktransfer.
    weights : str, os.PathLike, mapping or None, default="default"
        ``"default"``; None for random weights; a name of the provider's; the path of
        a checkpoint; or a state dict.
    stage : int, str or list of these, default=-1
        After which stage to take the features: its position (0 is the first, -1 the
        last), or the name of a stage or block. Features of several are concatenated.
    pooling : {"avg", "max", "avgmax", "cls", "flatten"}, default="avg"
        Over height and width, or over tokens. "avgmax" concatenates both; "cls" takes
        the class token of a vision transformer; "flatten" does not pool.
    pool_size : int, default=1
        Keeps a grid of ``pool_size`` x ``pool_size`` pooled cells, so that the features
        know where in the image something is. A sequence of tokens that is no grid is
        divided lengthwise.
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default the weights' own.
    image_shape : tuple, default=None
        Shape of one image, ``(h, w)`` or ``(h, w, c)``, if X holds flat rows.
    value_range : "auto" or (low, high), default="auto"
        Values of black and white in arrays, and in images of more than 8 bits. "auto"
        is (0, 1) for floats, (0, 65535) for uint16 and (0, 255) for other integers.
    batch_size : int or "auto", default="auto"
        How many samples go through the network at a time. It changes results by
        rounding alone.
    device : str or torch.device, default="auto"
        "auto" is a GPU if there is one.
    memory : str, os.PathLike, joblib.Memory or None, default=None
        Folder in which activations are kept for other processes and later runs. They
        are kept in this process's memory in any case; see the user guide.
    precision : {"auto", "float32"}, default="auto"
        What frozen stages are computed in. "float32" is the network as it is; "auto"
        folds BatchNorm into convolutions and takes bfloat16 where the hardware gains by
        it and the features stay within 5%; see the user guide.
    on_error : {"raise", "warn"}, default="raise"
        What to do about images that cannot be read: missing or broken files, missing
        paths, arrays that hold NaN. "raise" names the first one in an error. With
        "warn", `transform` gives rows of NaN for them and warns once, and `fit` reads
        all of X to list them in ``unreadable_``.
    random_state : int, RandomState instance or None, default=None
        Seeds random weights (``weights=None``).
    verbose : int, default=0
        Shows a progress bar.

    Attributes
    ----------
    backbone_ : Backbone
        The network in stages.
    preprocessing_ : ImagePreprocessing or VectorPreprocessing
        What the weights were trained with, and what samples go through.
    stages_ : list of str
        Names of the boundaries that the features come from.
    model_card_ : ModelCard
        Where the backbone comes from, and what its weights may be used for.
    value_range_ : tuple or None
        The value range that was found in X.
    unreadable_ : pandas.DataFrame or None
        With ``on_error="warn"``, the samples of `fit` that cannot be read, by ``row``,
        ``name`` (the path, if there is one) and ``reason``.
    n_features_in_ : int
        Number of columns, if X is a table.

    See Also
    --------
    FineTunedClassifier : Trains the last stages, too.
    sktransfer.backbones.describe_backbone : The stages to choose from.

    References
    ----------
    J. Yosinski, J. Clune, Y. Bengio, H. Lipson (2014). How transferable are features
    in deep neural networks? https://arxiv.org/abs/1411.1792

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sktransfer import PretrainedFeatureExtractor
    >>> extractor = PretrainedFeatureExtractor(stage="blocks.4", pool_size=2)
    >>> extractor.fit_transform(load_sample_images().images).shape
    (2, 448)
    """

    _parameter_constraints = {
        **BackboneEstimator._parameter_constraints,
        "stage": [Integral, str, list, tuple],
        "pooling": [StrOptions({"avg", "max", "avgmax", "cls", "flatten"})],
        "pool_size": [Interval(Integral, 1, None, closed="left")],
        "on_error": [StrOptions({"raise", "warn"})],
    }

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        weights="default",
        stage=-1,
        pooling="avg",
        pool_size=1,
        image_size=None,
        image_shape=None,
        value_range="auto",
        batch_size="auto",
        device="auto",
        memory=None,
        precision="auto",
        on_error="raise",
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.stage = stage
        self.pooling = pooling
        self.pool_size = pool_size
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.precision = precision
        self.on_error = on_error
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @undone_on_error
    def fit(self, X, y=None):
        """Load the backbone and check that it can look at X.

        Parameters
        ----------
        X : array-like of n_samples
            File paths, images, encoded bytes, arrays, flat rows, a one-column
            DataFrame or a Dataset; see the user guide.
        y : None
            Not used.

        Returns
        -------
        self : PretrainedFeatureExtractor

        Raises
        ------
        ValueError
            If there is no such stage or X cannot be read; with ``on_error="warn"``, if
            no sample of X can be read.
        """
        self._validate_params()
        X = self._check_X(X, reset=True)
        samples = self._start(X)
        self.stages_ = [self._resolve_stage(s) for s in self._listed_stages()]
        self._pools()
        self._add_to_card(strategy="features", stages=self.stages_)
        self.backbone_ = self.backbone_.fork(self.backbone_.stage_names[-1])
        warn = self.on_error == "warn"
        self.unreadable_ = self._list_unreadable(samples) if warn else None
        return self

    @own_torch_state()
    def transform(self, X):
        """Compute the features.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            With ``on_error="warn"``, NaN for samples that cannot be read.

        Raises
        ------
        ValueError
            If X cannot be read.

        Warns
        -----
        UserWarning
            With ``on_error="warn"``, if samples cannot be read: how many, and of the
            first ones which and why.
        """
        check_is_fitted(self)
        return self._features_of(self._samples(X))

    def _features_of(self, samples):
        pools = self._pools()
        a_pass = Pass(
            self.backbone_,
            [Target(name, pools[name]) for name in pools],
            store=self._store(),
            runtime=self._runtime(self.batch_size),
            on_error=self.on_error,
        )
        shape = len(samples), self._n_features_out
        features = np.full(shape, np.nan, dtype=np.float32)
        for indices, rows in a_pass.iterate(samples):
            by_name = dict(zip(pools, rows, strict=True))
            features[indices] = np.hstack([np.stack(by_name[n]) for n in self.stages_])
        if a_pass.unreadable:
            _warn_of(a_pass.unreadable, samples)
        return features

    def _list_unreadable(self, samples):
        reasons = find_unreadable(samples, self.preprocessing_)
        if len(reasons) == len(samples):
            raise ValueError(
                f"At least one sample of X must be readable. Got {len(samples)} that "
                f"are not. The reason for the first, {samples.describe(0)}: "
                f"{reasons[0]}"
            )
        rows = [(row, samples.name(row), reasons[row]) for row in reasons]
        return pd.DataFrame(rows, columns=["row", "name", "reason"], dtype=object)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "stages_")

    def _caption(self):
        return f"{self.backbone_.name} up to {', '.join(self.stages_)}"

    def _slim(self):
        backbone = self.backbone_
        used = backbone.in_order([*self.stages_, backbone.stage_names[-1]])[-1]
        return slim_state(self, self._whole(), used, used)

    def _restore(self, state):
        super()._restore(whole_state(state))

    @property
    def _n_features_out(self):
        pools = self._pools()
        return sum(
            pools[name].n_features(self.backbone_.activation_shape(name))
            for name in self.stages_
        )

    def _parts(self):
        """Return what comes after the preprocessing, and what it gives."""
        pools, backbone = self._pools(), self.backbone_
        ends = backbone.in_order(pools)
        ways = pairwise(["input", *ends])
        features = StackedFeatures(
            [backbone.frozen_section(*way) for way in ways],
            [pools[end] for end in ends],
            [ends.index(name) for name in self.stages_],
        )
        return [features], "features"

    def _listed_stages(self):
        is_many = isinstance(self.stage, list | tuple)
        stages = list(self.stage) if is_many else [self.stage]
        if not stages:
            raise ValueError("`stage` must name at least one stage. Got an empty list.")
        return stages

    def _resolve_stage(self, stage):
        names = self.backbone_.stage_names
        if isinstance(stage, str) and stage != "input":
            if stage in self.backbone_.boundaries:
                return stage
            return self.backbone_.boundary(stage)
        if not isinstance(stage, Integral) or not -len(names) <= stage < len(names):
            raise ValueError(
                f"`stage` must be an int in [{-len(names)}, {len(names) - 1}], or a "
                f"stage or block of {self.backbone_.name}: {names}. Got {stage!r}."
            )
        return names[stage]

    def _pools(self):
        pools, sample = {}, self.preprocessing_.input_shape
        for name in self.stages_:
            shape = self.backbone_.activation_shape(name)
            check_pooling(self.pooling, shape, sample, name)
            pools[name] = Pool(self.pooling, self.pool_size, shape, sample)
        return pools


def _warn_of(reasons, samples):
    """Warn once of samples that could not be read."""
    first = sorted(reasons)[:_NAMED]
    listed = "; ".join(
        f"{samples.describe(i)}: {reasons[i].rstrip('.')}" for i in first
    )
    more = len(reasons) - len(first)
    warnings.warn(
        f"{len(reasons)} of {len(samples)} samples cannot be read: their features are "
        f"NaN. {listed}{f'; and {more} more' if more else ''}.",
        UserWarning,
        stacklevel=6,
    )
