"""Transformer that computes features with a pretrained network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sktransfer._base import BackboneEstimator, restore_on_error
from sktransfer.activations import POOLINGS, open_store
from sktransfer.backbones import (
    Backbone,
    BackboneLike,
    describe_training,
    use_of_backbones,
)
from sktransfer.inputs import find_unreadable
from sktransfer.model import Features, FittedModel, make_pool, write_features
from sktransfer.training import Pooling
from sktransfer.utils import (
    ParameterGroup,
    StrOptions,
    check_is_fitted,
    near_matches,
    spawn_seed,
    types,
)


class PretrainedFeatureExtractor(BackboneEstimator):
    """Transformer that computes features with a pretrained network, at any depth.

    Nothing is learned from X: the samples go through the first stages of the backbone,
    and their activations are pooled to one vector per sample. How deep to go (`stage`)
    and how finely to pool (`pooling__grid`) are hyperparameters: the last stage is the
    most specialised in what the network was trained on.

    Parameters
    ----------
    backbone : str, torch.nn.Module, callable or Backbone, default="efficientnet_lite0"
        See :func:`sktransfer.backbones.load_backbone`. The default's ImageNet weights
        are installed with sktransfer.
    weights : str, os.PathLike, mapping or None, default="default"
        ``"default"``; None for random weights; the name of other weights of the
        provider; the path of a checkpoint; or a state dict.
    stage : int, str or list of these, default="last"
        After which stage to take the features: "last", the name of a stage or block, or
        a number of stages as in `freeze`: 1 is after the first stage, and -1 leaves out
        the last one. Features of several are concatenated.
    pooling : {"auto", "avg", "max", "avgmax", "cls", "last", "flatten"} or Pooling, \
            default="auto"
        Over height and width, or over tokens. "auto" is the average, or what a network
        for texts was trained with. See :class:`Pooling`, which also has a grid of
        cells.
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default the weights' own.
    image_shape : tuple, default=None
        Shape of one image, ``(h, w)`` or ``(h, w, c)``, if X holds flat rows.
    value_range : "auto" or (low, high), default="auto"
        Values of black and white in arrays, and in images of more than 8 bits. "auto"
        is (0, 1) for floats, (0, 65535) for uint16 and (0, 255) for other integers.
    batch_size : int or "auto", default="auto"
        Samples per forward pass. It changes results by rounding alone.
    device : str or torch.device, default="auto"
        Device to compute on. "auto" is a GPU if there is one; worker processes are
        spread over several GPUs. "accelerate" (an extra) is the one that accelerate
        gives this process.
    memory : str, os.PathLike, joblib.Memory or None, default=None
        Folder in which activations are kept for other processes and later runs. They
        are kept in this process's memory in any case; see the user guide.
    on_error : {"raise", "warn"}, default="raise"
        What to do about images that cannot be read: missing or broken files, missing
        paths, arrays that hold NaN. "raise" names the first one in an error. With
        "warn", `transform` gives rows of NaN for them and warns once, and `fit` reads
        all of X to list them in ``unreadable_``.
    random_state : int, RandomState instance or None, default=None
        Seeds random weights (``weights=None``).
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    model_ : FittedModel
        Everything that the features depend on.
    backbone_ : Backbone
        The network in stages.
    preprocessing_ : ImagePreprocessing or VectorPreprocessing
        Preprocessing of the samples, which is that of the weights.
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
    FineTunedClassifier : Classifier that also trains the last stages.
    sktransfer.backbones.describe_backbone : List the stages.

    References
    ----------
    J. Yosinski, J. Clune, Y. Bengio, H. Lipson (2014). How transferable are features
    in deep neural networks? https://arxiv.org/abs/1411.1792

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sktransfer import Pooling, PretrainedFeatureExtractor
    >>> pooling = Pooling("avg", grid=2)
    >>> extractor = PretrainedFeatureExtractor(stage="blocks.4", pooling=pooling)
    >>> extractor.fit_transform(load_sample_images().images).shape
    (2, 448)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BackboneEstimator._parameter_constraints,
        "stage": [Integral, str, list, tuple],
        "pooling": [StrOptions({"auto", *POOLINGS}), Pooling],
        "on_error": [StrOptions({"raise", "warn"})],
    }
    _groups: ClassVar[dict[str, type[ParameterGroup]]] = {"pooling": Pooling}

    def __init__(
        self,
        backbone: BackboneLike = "efficientnet_lite0",
        *,
        weights: types.Weights = "default",
        stage: int | str | Sequence[int | str] = "last",
        pooling: str | Pooling = "auto",
        image_size: types.ImageSize | None = None,
        image_shape: Sequence[int] | None = None,
        value_range: types.ValueRange = "auto",
        batch_size: int | str = "auto",
        device: types.Device = "auto",
        memory: types.Memory | None = None,
        on_error: str = "raise",
        random_state: types.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.stage = stage
        self.pooling = pooling
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.on_error = on_error
        self.random_state = random_state
        self.verbose = verbose

    @restore_on_error
    def fit(self, X: types.Samples, y: None = None) -> Self:
        """Load the backbone and check that it can process X.

        Parameters
        ----------
        X : array-like of n_samples
            File paths, images, encoded bytes, arrays, flat rows, a one-column
            DataFrame or a Dataset; see the user guide.
        y : None
            Ignored.

        Returns
        -------
        self : PretrainedFeatureExtractor

        Raises
        ------
        ValueError
            If a parameter is invalid, `stage` names no stage, or X cannot be read; with
            ``on_error="warn"``, if no sample of X can be read.
        """
        self._validate_params()
        X = self._modality(X).validate(self, X, reset=True)
        loaded, samples = self._load(X, spawn_seed(self.random_state))
        stages = resolve_stages(self.stage, loaded.backbone)
        pooling = Pooling.of(self.pooling)
        unreadable = None
        if self.on_error == "warn":
            unreadable = _list_unreadable(samples, loaded.preprocessing)
        kind = type(self).__name__
        self.model_ = _pooled_model(loaded, stages, pooling, kind)
        self.stages_, self.unreadable_ = stages, unreadable
        self._derive()
        return self

    @use_of_backbones()
    def transform(self, X: types.Samples) -> NDArray[np.float32]:
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
            With ``on_error="warn"``, if samples cannot be read. The message has their
            number, and names the first ones with the reasons.
        """
        check_is_fitted(self)
        return self.model_.features(
            self._read(X, self.model_),
            runtime=self._runtime(self.model_, self.batch_size),
            store=open_store(self.memory),
            on_error=self.on_error,
        )

    @use_of_backbones()
    def transform_to(
        self,
        X: types.Samples,
        path: str | os.PathLike,
        *,
        chunk_size: int = 4096,
    ) -> Path:
        """Compute the features of many samples, and write them to a Parquet file.

        The rows are in the order of X, and only those of `chunk_size` samples are in
        memory at a time. Parts are written to a hidden folder beside the file, so that
        a call that was stopped, also by a crash, goes on where it was when it is
        repeated with the same samples and parameters. The file appears under its name,
        and replaces one of that name, once it is complete. Needs ``pip install
        "sktransfer[parquet]"``.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        path : str or os.PathLike
            Path of the file, in a folder that exists.
        chunk_size : int, default=4096
            Number of samples per part.

        Returns
        -------
        pathlib.Path
            The path of the file. :func:`pandas.read_parquet` returns a data frame of
            float32 with the names of :meth:`get_feature_names_out`. If X consists of
            paths, these are its index.

        Raises
        ------
        ImportError
            If pyarrow is not installed.
        ValueError
            If X cannot be read, or there is no such folder.
        RuntimeError
            If another call, also in another process, is writing the same file.

        Examples
        --------
        >>> import tempfile
        >>> import pandas as pd
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_sample_images
        >>> from sktransfer import PretrainedFeatureExtractor
        >>> images = load_sample_images().images
        >>> extractor = PretrainedFeatureExtractor(image_size=64).fit(images)
        >>> file = Path(tempfile.mkdtemp()) / "features.parquet"
        >>> pd.read_parquet(extractor.transform_to(images, file)).shape
        (2, 1280)
        """
        check_is_fitted(self)
        is_number = isinstance(chunk_size, Integral) and chunk_size is not True
        if not is_number or chunk_size < 1:
            raise ValueError(
                f"`chunk_size` must be a number of samples, at least 1. Got "
                f"{chunk_size!r}."
            )
        model = self.model_
        runtime = self._runtime(model, self.batch_size)
        compute = partial(
            model.features,
            runtime=runtime,
            store=open_store(self.memory),
            on_error=self.on_error,
        )
        names, key = self.get_feature_names_out(), model.features_key(runtime)
        samples = self._read(X, model)
        return write_features(path, samples, compute, names, key, chunk_size=chunk_size)

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> NDArray[np.object_]:
        """Return the names of the features: the stage and a number.

        Parameters
        ----------
        input_features : None or array-like of str, default=None
            Checked against the columns of X, if X is a table.

        Returns
        -------
        ndarray of shape (n_features_out,), str
            Such as ``"blocks.3_17"``.
        """
        super().get_feature_names_out(input_features)
        outputs = self.model_.outputs
        numbered = zip(outputs.stages, outputs.widths, strict=True)
        names = [f"{stage}_{i}" for stage, width in numbered for i in range(width)]
        return np.array(names, dtype=object)


def _pooled_model(loaded, stages, pooling, estimator):
    """Return the model of the pooled features of some stages (FittedModel)."""
    backbone = loaded.backbone
    ends = backbone.in_order(stages)
    pools = {end: make_pool(backbone, end, pooling) for end in ends}
    widths = [pools[n].n_features(backbone.activation_shape(n)) for n in stages]
    trained = describe_training(estimator=estimator, strategy="features", stages=stages)
    changed = {
        "backbone": backbone.fork(backbone.stage_names[-1]),
        "card": {**loaded.card, "trained": trained},
    }
    return FittedModel(
        **(vars(loaded) | changed),
        taps=pools,
        network=None,
        outputs=Features(stages, widths),
        n_features=sum(widths),
    )


def resolve_stages(given, backbone: Backbone, parameter: str = "stage") -> list[str]:
    """Return the names of the boundaries that a parameter asks for."""
    stages = list(given) if isinstance(given, list | tuple) else [given]
    if not stages:
        raise ValueError(f"`{parameter}` must name at least one stage. Got none.")
    return [_resolve_stage(stage, backbone, parameter) for stage in stages]


def _resolve_stage(stage, backbone, parameter):
    names, listed = backbone.stage_names, [*backbone.boundaries]
    with suppress(ValueError):
        name = names[-1] if stage == "last" else backbone.boundary(stage)
        if name in listed:
            return name
    n = len(names)
    raise ValueError(
        f"`{parameter}` must be 'last', a number of stages from 1 to {n} or from "
        f"{1 - n} to -1, or a stage or block of {backbone.name}: {names}. Got "
        f"{stage!r}.{near_matches(str(stage), listed)}"
    )


def _list_unreadable(samples, preprocessing):
    """Return a table of the samples that cannot be read."""
    reasons = find_unreadable(samples, preprocessing)
    if len(reasons) == len(samples):
        raise ValueError(
            f"At least one sample of X must be readable. Got {len(samples)} that "
            f"are not. The reason for the first, {samples.describe(0)}: "
            f"{reasons[0]}"
        )
    rows = [(row, samples.name(row), reasons[row]) for row in reasons]
    return pd.DataFrame(rows, columns=["row", "name", "reason"], dtype=object)
