"""A classifier that trains the last stages of a pretrained network."""

from collections import OrderedDict
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from torch import nn

from sktransfer._base import BackboneEstimator
from sktransfer.activations import (
    FixedViews,
    FreshViews,
    Layout,
    Pass,
    Pool,
    Target,
    check_pooling,
    digest_samples,
    load_activations,
)
from sktransfer.compute import pad_rows, use_channels_last
from sktransfer.inputs import PRESETS, preset_augmentation
from sktransfer.training import (
    ACTIVATION_AUGMENTATIONS,
    ActivationAugment,
    Network,
    fit_probe,
    merge_equal,
    random_head,
    resolve_freeze,
    restore_net,
    train,
    weigh_classes,
)
from sktransfer.utils import (
    Interval,
    StrOptions,
    check_classification_targets,
    check_consistent_length,
    check_is_fitted,
    check_sample_weight,
    column_or_1d,
    spawn_seed,
    validate_data,
)

__all__ = ["FineTunedClassifier"]


class FineTunedClassifier(ClassifierMixin, BackboneEstimator):
    """Classify with a pretrained network of which the last stages are trained.

    The first stages keep the weights that they came with (`freeze` says how many), so
    their activations are computed once, before the first epoch. The stages above and a
    new head are trained on them. With ``freeze="all"`` only the head is left, which is
    logistic regression and solved as such.

    Parameters
    ----------
    backbone : str, torch.nn.Module, callable or Backbone, default="efficientnet_lite0"
        See :func:`sktransfer.backbones.load_backbone`. The default's ImageNet weights
        are installed with sktransfer.
    weights : str, os.PathLike or None, default="default"
        ``"default"``; None for random weights; a name of the provider's; or the path
        of a checkpoint.
    freeze : int, float or str, default="auto"
        - int: that many leading stages are frozen; negative: all but the last so many;
        - float in (0, 1): this share of the stages;
        - the name of a stage or block: everything up to and including it;
        - ``"all"``: linear probe; ``"none"``: full fine-tuning;
        - ``"auto"``: by the number of samples. Below 500 all stages, below 2,000 the
          early and middle ones (two thirds), below 10,000 the early ones (a third),
          beyond none.
    pooling : {"auto", "avg", "max", "avgmax", "cls", "flatten"}, default="auto"
        From the last stage's activation to the head. "auto" is what the network itself
        does in front of its classifier, and "avg" where it has no such part.
    pool_size : int, default=1
        Gives the head a grid of ``pool_size`` x ``pool_size`` pooled cells.
    head_init : {"probe", "random"}, default="probe"
        What the head starts from: the linear probe (LP-FT), or small random weights.
    C : float, default=1.0
        Inverse strength of the probe's L2 penalty, as in
        :class:`sklearn.linear_model.LogisticRegression`.
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default the weights' own.
    image_shape : tuple, default=None
        Shape of one image, ``(h, w)`` or ``(h, w, c)``, if X holds flat rows.
    value_range : "auto" or (low, high), default="auto"
        Values of black and white in numeric arrays. "auto" goes by the dtype, and by
        the values for floats.
    max_epochs : int, default=10
        Passes over the samples. The probe has none.
    lr : float, default=1e-3
        Highest learning rate of the head (AdamW, warm-up and cosine).
    backbone_lr_ratio : float, default=0.5
        Learning rate of the trained stages over the head's.
    weight_decay : float, default=0.01
        Decoupled; not of norms and biases.
    batch_norm : {"eval", "train"}, default="eval"
        Whether BatchNorm in the trained stages keeps the statistics that it came with
        or takes those of the batch. The former does better on few samples.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn.
    augment : {"crop", "crop_flip"}, callable or None, default=None
        Random views of the images to train on. "crop" is a random crop of 35% to 100%
        of the area, "crop_flip" mirrors besides; a callable takes a PIL image and
        returns one, as torchvision's transforms do. The probe sees the images as they
        are, unless there are `n_views`; so with ``freeze="all"``, which "auto" is below
        500 samples, only `n_views` makes a difference.
    n_views : int, default=None
        How many fixed views of each image are drawn; their activations are stored. By
        default each epoch draws new ones, which have to go through the frozen stages.
    augment_activations : bool or collection of str, default=False
        Which of "flip", "shift", "crop" and "drop" stored activations go through in
        training, which costs next to nothing; True is all.
    batch_size : int or "auto", default="auto"
        Samples a training step; "auto" is 32.
    device : str or torch.device, default="auto"
        "auto" is a GPU if there is one.
    callbacks : list of skorch callbacks or (name, callback), default=None
        Added to those of the training, see :mod:`skorch.callbacks`. The probe has none.
    memory : str, os.PathLike, joblib.Memory or None, default=None
        Folder in which activations are kept for other processes and later runs. They
        are kept in this process's memory in any case; see the user guide.
    precision : {"auto", "float32"}, default="auto"
        What frozen stages are computed in. "float32" is the network as it is; "auto"
        folds BatchNorm into convolutions and takes bfloat16 where the hardware gains by
        it and the features stay within 5%; see the user guide.
    random_state : int, RandomState instance or None, default=None
        Seeds the order of the samples, dropout and random weights.
    verbose : int, default=0
        Shows a progress bar and prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbone_ : Backbone
        The network in stages, as trained.
    boundary_ : str
        Name of the stage or block up to which the network is frozen.
    freeze_depth_ : int
        How many whole stages are frozen.
    n_trainable_parameters_ : int
        Of the trained stages and the head.
    preprocessing_ : ImagePreprocessing or VectorPreprocessing
        What the weights were trained with, and what samples go through.
    value_range_ : tuple or None
        The value range that was found in X.
    module_ : torch.nn.Module
        From model inputs to scores, in float32: prefix, suffix, pool and head.
    net_ : skorch.NeuralNetClassifier
        What trained the suffix and the head, from activations to scores.
    history_ : pandas.DataFrame
        One row an epoch; one row for a probe.
    pass_report_ : pandas.DataFrame
        What `fit` took from the store, computed and kept.
    n_features_in_ : int
        Number of columns, if X is a table.

    See Also
    --------
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
    >>> model = FineTunedClassifier(freeze="all", image_shape=(8, 8), image_size=64)
    >>> model.fit(X[:60], y[:60]).score(X[60:120], y[60:120])
    1.0
    """

    _parameter_constraints = {
        **BackboneEstimator._parameter_constraints,
        "freeze": [Integral, Interval(Real, 0, 1, closed="neither"), str],
        "pooling": [StrOptions({"auto", "avg", "max", "avgmax", "cls", "flatten"})],
        "pool_size": [Interval(Integral, 1, None, closed="left")],
        "head_init": [StrOptions({"probe", "random"})],
        "C": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "backbone_lr_ratio": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_norm": [StrOptions({"eval", "train"})],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "augment": [StrOptions({*PRESETS}), callable, None],
        "n_views": [Interval(Integral, 1, None, closed="left"), None],
        "augment_activations": ["boolean", list, tuple, set],
        "callbacks": [list, tuple, None],
    }

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        weights="default",
        freeze="auto",
        pooling="auto",
        pool_size=1,
        head_init="probe",
        C=1.0,
        image_size=None,
        image_shape=None,
        value_range="auto",
        max_epochs=10,
        lr=1e-3,
        backbone_lr_ratio=0.5,
        weight_decay=0.01,
        batch_norm="eval",
        class_weight=None,
        augment=None,
        n_views=None,
        augment_activations=False,
        batch_size="auto",
        device="auto",
        callbacks=None,
        memory=None,
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.freeze = freeze
        self.pooling = pooling
        self.pool_size = pool_size
        self.head_init = head_init
        self.C = C
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.max_epochs = max_epochs
        self.lr = lr
        self.backbone_lr_ratio = backbone_lr_ratio
        self.weight_decay = weight_decay
        self.batch_norm = batch_norm
        self.class_weight = class_weight
        self.augment = augment
        self.n_views = n_views
        self.augment_activations = augment_activations
        self.batch_size = batch_size
        self.device = device
        self.callbacks = callbacks
        self.memory = memory
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, sample_weight=None):
        """Train the stages above the boundary and a head.

        Parameters
        ----------
        X : array-like of n_samples
            File paths, images, encoded bytes, arrays, flat rows, a one-column
            DataFrame or a Dataset; see the user guide.
        y : array-like of shape (n_samples,), default=None
            Labels. May be left out if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same.

        Returns
        -------
        self : FineTunedClassifier

        Raises
        ------
        ValueError
            If there is no such stage, X cannot be read, or y has one class.
        """
        self._validate_params()
        samples, y, sample_weight = self._check_Xy(X, y, sample_weight)
        prefix, suffix = self._split(len(samples))
        activations, report = load_activations(
            self.backbone_,
            self._target,
            samples,
            store=self._store(),
            runtime=self._runtime(),
        )
        self.pass_report_ = pd.DataFrame(report)
        views = self._views(samples)
        self.net_, history = self._train(suffix, activations, views, y, sample_weight)
        self.history_ = pd.DataFrame(history)
        parts = {"prefix": prefix, "pool": self._target.tap}
        self.module_ = nn.Sequential(
            OrderedDict(parts, network=self.net_.module_)
        ).eval()
        self.module_.to(self._runtime().device)
        self.n_trainable_parameters_ = _n_trainable(self.net_.module_)
        return self

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
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X):
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Rows sum to one.
        """
        return softmax(self._scores(X), axis=1)

    def score(self, X, y=None, sample_weight=None):
        """Compute the share of correct predictions.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        y : array-like of shape (n_samples,), default=None
            Labels. May be left out if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same.

        Returns
        -------
        float
        """
        y = self._samples(X).labels if y is None else y
        return super().score(X, y, sample_weight)

    def predict(self, X):
        """Predict labels.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Of the labels in ``classes_``.
        """
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]

    def _check_Xy(self, X, y, sample_weight):
        """Validate, load the backbone, and set ``classes_``.

        Returns the distinct samples, the codes of their labels and their weights.
        """
        if self._takes_images(X):
            X = self._check_X(X, reset=True)
        else:
            X, y = validate_data(self, X, y, dtype=np.float32)
        samples = self._start(X)
        y = samples.labels if y is None else y
        if y is None:
            raise ValueError(
                "`y` is needed to fit FineTunedClassifier: X is no Dataset with labels."
            )
        y = column_or_1d(y, warn=True)
        check_consistent_length(samples, y)
        check_classification_targets(y)
        weight = check_sample_weight(
            sample_weight, samples, dtype=np.float64, ensure_non_negative=True
        )
        weight = weigh_classes(self.class_weight, y, weight)
        self.classes_, codes = np.unique(y, return_inverse=True)
        digests = digest_samples(samples)
        distinct, weight = merge_equal(digests, codes, weight)
        codes = codes[distinct].astype(np.int64)
        if len(np.unique(codes)) < 2:
            raise ValueError(
                "`y` must have at least two classes among the samples that have "
                f"weight. Got one class: {y[0]!r}."
            )
        samples = samples.take(distinct)
        samples.digests = [digests[i] for i in distinct]
        return samples, codes, weight

    def _split(self, n_samples):
        """Cut the backbone at the boundary; what lies before it is frozen.

        The target is what the prefix must give: pooled if only the head is left.
        """
        backbone = self.backbone_
        self.boundary_ = resolve_freeze(self.freeze, backbone, n_samples)
        self.freeze_depth_ = backbone.n_stages_before(self.boundary_)
        end = self._end()
        if self.freeze_depth_ == len(backbone.stages):
            self.boundary_ = end
        probe_only = self.boundary_ == end
        self._target = Target(
            self.boundary_, self._pool() if probe_only else nn.Identity()
        )
        self.backbone_ = backbone = backbone.fork(self.boundary_)
        suffix = backbone.section(self.boundary_, end).requires_grad_(True)
        suffix.fixed_statistics = self.batch_norm == "eval"
        return backbone.section("input", self.boundary_).freeze(), suffix

    def _end(self):
        """Boundary that the head sits on."""
        backbone = self.backbone_
        own = sum(n > 1 for n in backbone.activation_shape("features")) == 1
        if own and self.pooling == "auto" and self.pool_size == 1:
            return "features"
        return backbone.stage_names[-1]

    def _pool(self):
        backbone, end = self.backbone_, self._end()
        pooling = "avg" if self.pooling == "auto" else self.pooling
        shape, sample = backbone.activation_shape(end), self.preprocessing_.input_shape
        check_pooling(pooling, shape, sample, end)
        return Pool(pooling, self.pool_size, shape, sample)

    def _views(self, samples):
        """Return random views of the samples to train on, None if there are none."""
        if self.augment is None:
            return None
        preprocessing, augment = self.preprocessing_, self.augment
        if preprocessing.kind == "vector":
            raise ValueError(
                "`augment` must be None for a backbone that takes vectors. Got "
                f"{augment!r}; `augment_activations` is for any backbone."
            )
        if isinstance(augment, str):
            augment = preset_augmentation(augment, preprocessing)
        seed, runtime = spawn_seed(self.random_state), self._runtime()
        source = self.backbone_, self._target, samples, augment
        if self.n_views is None:
            return FreshViews(*source, seed, runtime=runtime)
        return FixedViews(
            *source, self.n_views, seed, store=self._store(), runtime=runtime
        )

    def _activation_augment(self):
        """Return what activations at the boundary go through in training, or None."""
        chosen = self.augment_activations
        is_bool = isinstance(chosen, bool | np.bool_)
        kinds = ACTIVATION_AUGMENTATIONS if is_bool else chosen
        unknown = {*kinds} - {*ACTIVATION_AUGMENTATIONS}
        if unknown:
            raise ValueError(
                "`augment_activations` must be a bool or hold some of "
                f"{list(ACTIVATION_AUGMENTATIONS)}. Got {sorted(unknown)[0]!r}."
            )
        shape = self.backbone_.activation_shape(self.boundary_)
        layout = Layout(shape, self.preprocessing_.input_shape)
        return ActivationAugment(kinds, layout) if chosen else None

    def _train(self, suffix, activations, views, y, sample_weight):
        """Return the net that holds suffix and head, and the history."""
        probe_only, augment = suffix.start == suffix.stop, self._activation_augment()
        network = Network(
            nn.Identity() if probe_only else suffix,
            nn.Identity() if probe_only else self._pool(),
            augment=None if probe_only else augment,
        )
        network = use_channels_last(network).to(self._runtime().device)
        seed = spawn_seed(self.random_state)
        if probe_only or self.head_init == "probe":
            seen = views.views if isinstance(views, FixedViews) else [activations]
            network.head, row = self._probe(network, seen, y, sample_weight)
        else:
            network.head = random_head(network, activations, len(self.classes_), seed)
        if probe_only:
            return restore_net(network, [row]), [row]
        net = train(
            network,
            activations if views is None else views,
            y,
            sample_weight,
            max_epochs=self.max_epochs,
            lr=self.lr,
            backbone_lr_ratio=self.backbone_lr_ratio,
            weight_decay=self.weight_decay,
            batch_size=32 if self.batch_size == "auto" else self.batch_size,
            device=self._runtime().device,
            callbacks=self.callbacks,
            seed=seed,
            verbose=self.verbose,
        )
        rows = [{k: v for k, v in row.items() if k != "batches"} for row in net.history]
        return net, rows

    def _probe(self, network, views, y, sample_weight):
        """Fit the head on some views of the samples, which share their weights."""
        batch_size, n_views = self._runtime().batch_size, len(views)
        features = [network.features(activations, batch_size) for activations in views]
        head, n_iter, loss = fit_probe(
            torch.cat(features),
            np.tile(y, n_views),
            len(self.classes_),
            C=self.C,
            sample_weight=np.tile(sample_weight / n_views, n_views),
        )
        return head, {"epoch": 1, "train_loss": loss, "n_iter": n_iter}

    def _scores(self, X):
        """Logits, of shape (n_samples, n_classes), float64."""
        check_is_fitted(self)
        samples, runtime = self._samples(X), self._runtime()
        network = self.module_.network.to(runtime.device).eval()
        scores = np.empty((len(samples), len(self.classes_)))
        a_pass = Pass(
            self.backbone_, [self._target], store=self._store(), runtime=runtime
        )
        for indices, (rows,) in a_pass.iterate(samples):
            for first in range(0, len(indices), runtime.batch_size):
                part = slice(first, first + runtime.batch_size)
                z = a_pass.as_input(rows[part]).to(runtime.device)
                with torch.inference_mode():
                    found = network(pad_rows(z, runtime.batch_size))[: len(z)]
                scores[indices[part]] = found.cpu().numpy()
        return scores

    def __getstate__(self):
        # The net's own pickle would hold a second copy of the backbone.
        state = dict(super().__getstate__())
        if "net_" in state:
            state["net_"] = state["net_"].history.to_list()
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "net_" in state:
            self.net_ = restore_net(self.module_.network, state["net_"])


def _n_trainable(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
