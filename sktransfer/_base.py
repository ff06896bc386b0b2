"""The base of the estimators: loading, reading, features, export, persistence."""

from __future__ import annotations

import copy
import functools
import os
import warnings
from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metaestimators import available_if
from torch import nn

from sktransfer.activations import choose_precision, open_store
from sktransfer.backbones import (
    Backbone,
    ModelCard,
    card_of,
    load_backbone,
    modality_for,
    shared_backbone,
    use_of_backbones,
)
from sktransfer.compute import has_device, resolve_device
from sktransfer.inputs import MODALITIES, as_samples, tell_enlargement
from sktransfer.model import (
    ExportedModule,
    FittedModel,
    LoadedBackbone,
    caption_of,
    slim_state,
)
from sktransfer.utils import (
    Interval,
    ParameterGroup,
    StrOptions,
    add_group_params,
    adopt_settings,
    as_groups,
    captioned_block,
    check_is_fitted,
    get_config,
    on_cpu,
    settings_to_send,
    types,
    validate_groups,
)

Fit = TypeVar("Fit", bound=Callable[..., Any])


def restore_on_error(fit: Fit) -> Fit:
    """Restore the attributes of the estimator if the decorated method raises.

    The method runs with torch's settings at their defaults, see `use_of_backbones`.
    """

    @functools.wraps(fit)
    def fit_or_undo(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = {**vars(self)}
        try:
            with use_of_backbones():
                return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return cast(Fit, fit_or_undo)


def backbone_of(backbone):
    """Return the backbone of a fitted estimator, and any other value unchanged."""
    if isinstance(backbone, FrozenEstimator):
        backbone = backbone.estimator
    if not isinstance(backbone, BackboneEstimator):
        return backbone
    if not hasattr(backbone, "backbone_"):
        raise NotFittedError(
            f"`backbone` is a {type(backbone).__name__} that is not fitted. Fit it "
            "first; where it is cloned, as in a search, wrap it in "
            "sklearn.frozen.FrozenEstimator."
        )
    return backbone.backbone_


class BackboneEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base of the estimators that compute features with a backbone.

    ``fit`` of a subclass sets ``model_``, a `FittedModel`. This class computes features
    with it, exports it and pickles it.
    """

    _parameter_constraints: ClassVar[dict] = {
        "backbone": "no_validation",
        "weights": "no_validation",
        "image_size": [Interval(Integral, 8, None, closed="left"), tuple, list, None],
        "image_shape": [tuple, list, None],
        "value_range": [StrOptions({"auto"}), tuple, list],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "device": [str, torch.device],
        "memory": "no_validation",
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _groups: ClassVar[dict[str, type[ParameterGroup]]] = {}
    # Fitted attributes that are parts of `model_`, and not pickled.
    _derived: ClassVar[tuple] = ("backbone_", "preprocessing_", "value_range_")
    on_error = "raise"  # training needs every sample
    _absent_device = None  # value of `device` if this machine does not have it

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        self._modality().set_tags(tags, self._options())
        return tags

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, including those of groups that are None.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include those of groups, such as ``training__weight_decay``.

        Returns
        -------
        dict
            Values by the names of the parameters.
        """
        params = super().get_params(deep=deep)
        return add_group_params(params, self._groups) if deep else params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including those of groups, as ``training__weight_decay``.

        Parameters
        ----------
        **params : dict
            Values by name. If a parameter of a group is set, a group that is None or
            given by a shorthand becomes an object.

        Returns
        -------
        self : object
        """
        return super().set_params(**as_groups(self, params, self._groups))

    def _validate_params(self):
        super()._validate_params()
        validate_groups(self, self._groups)

    def _options(self):
        """Return the parameters that modalities take (dict)."""
        names = ("image_size", "image_shape", "value_range")
        return {name: getattr(self, name) for name in names}

    def _modality(self, X=None):
        """Return the modality of the samples."""
        return modality_for(X, backbone_of(self.backbone), self._options())

    def _load(self, X, seed):
        """Load the backbone, and read X with it (LoadedBackbone, Samples)."""
        backbone, settings = self._load_backbone(X, seed), get_config()
        device = resolve_device(self.device)
        samples = as_samples(
            X,
            backbone.preprocessing,
            image_shape=self.image_shape,
            value_range=self.value_range,
            on_error=self.on_error,
        )
        loaded = LoadedBackbone(
            backbone=backbone,
            value_range=getattr(samples, "value_range", None),
            source=self._source(),
            card=card_of(backbone).to_dict(),
            precision=choose_precision(backbone, settings["precision"], device),
            activation_dtype=settings["activation_dtype"],
        )
        if self.image_size is None and self._runtime(loaded).verbose:
            tell_enlargement(samples, backbone.preprocessing)
        return loaded, samples

    def _load_backbone(self, X, seed):
        """Load the backbone; the parameter of the estimator is not changed."""
        given = backbone_of(self.backbone)
        settings = {"weights": self.weights, "image_size": self.image_size}
        if isinstance(given, Backbone):
            return copy.deepcopy(load_backbone(given, **settings))
        if isinstance(given, str):
            return shared_backbone(given, **settings, seed=seed)
        modality = self._modality(X)
        return load_backbone(
            given,
            **settings,
            n_features=X.shape[1] if getattr(X, "ndim", 0) == 2 else None,
            kind=next(name for name, m in MODALITIES.items() if m is modality),
            random_state=seed,
        )

    def _source(self):
        """Return the parameters to load a named backbone again; None without a name."""
        given, weights, size = backbone_of(self.backbone), self.weights, self.image_size
        if not isinstance(given, str) or isinstance(weights, Mapping):
            return None
        return {
            "backbone": self.backbone,
            "weights": weights if weights is None else os.fspath(weights),
            "image_size": [*map(int, size)] if np.iterable(size) else size,
        }

    def _read(self, X, loaded):
        """Read X as in `fit`, for a loaded backbone (Samples or VectorSamples)."""
        X = self._modality(X).validate(self, X, reset=False)
        return loaded.read(X, image_shape=self.image_shape, on_error=self.on_error)

    def _runtime(self, loaded, batch_size="auto"):
        """Return where and how samples go through the frozen stages."""
        device = "cpu" if self.device == self._absent_device else self.device
        return loaded.runtime(device, batch_size, self.verbose)

    def _derive(self) -> None:
        """Set the fitted attributes that are parts of ``model_``."""
        self.backbone_ = self.model_.backbone
        self.preprocessing_ = self.model_.preprocessing
        self.value_range_ = self.model_.value_range

    def __sklearn_is_fitted__(self):
        return hasattr(self, "model_")

    @property
    def _n_features_out(self):
        return self.model_.n_features

    @use_of_backbones()
    def transform(self, X: types.Samples) -> np.ndarray:
        """Compute the features that the head sees.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
        """
        check_is_fitted(self)
        samples = self._read(X, self.model_)
        return self.model_.features(
            samples, runtime=self._runtime(self.model_), store=open_store(self.memory)
        )

    @property
    def model_card_(self) -> ModelCard:
        """Source and license of the backbone, and what was trained on top of it."""
        check_is_fitted(self)
        return self.model_.model_card

    def to_torch(self) -> ExportedModule:
        """Return the fitted model as one PyTorch module that needs nothing else.

        The module takes raw RGB images, a tensor of shape (n, h, w, 3) with any h and
        w, of uint8 or floats in [0, 1], or rows, a float32 tensor (n, d), or the token
        ids of texts and their mask (n, t). It returns the probabilities of a
        classifier, the predictions of a regressor, or the features of a transformer.

        The module computes in float32, so its results differ by rounding from those of
        an estimator that computes frozen stages in bfloat16 or stores activations in 16
        bits. To avoid that, fit with ``sktransfer.set_config(precision="float32",
        activation_dtype="float32")``.

        Returns
        -------
        torch.nn.Module
            A copy in float32, on the CPU and in eval mode. ``classes_`` names the
            columns of probabilities.

        See Also
        --------
        to_onnx : Write the module to a file.
        """
        check_is_fitted(self)
        return self.model_.to_torch()

    def to_onnx(
        self, path: str | os.PathLike, *, image_size: types.ImageSize | None = None
    ) -> Path:
        """Write the module of :meth:`to_torch` to an ONNX file.

        An existing file is replaced only after onnxruntime has computed the same
        outputs as PyTorch for a few random samples.

        Parameters
        ----------
        path : str or os.PathLike
            File to write, in a folder that exists.
        image_size : int or (int, int), default=None
            Height and width of the raw images that the file takes, in pixels. By
            default those of the model input. Any number of images can be passed.

        Returns
        -------
        pathlib.Path
            Path of the file.

        Raises
        ------
        ImportError
            If the extra ``onnx`` is not installed.
        ValueError
            If `path` is a folder or in no existing folder, or `image_size` is invalid.
        OSError
            If the file cannot be written, for lack of space or of permission.
        RuntimeError
            If the network cannot be translated to ONNX, or if onnxruntime computes
            other outputs than PyTorch.
        """
        check_is_fitted(self)
        return self.model_.to_onnx(path, image_size=image_size)

    @available_if(lambda self: self.__sklearn_is_fitted__())
    def _sk_visual_block_(self):
        """Return the diagram of a fitted estimator, with what was trained."""
        return captioned_block(self, caption_of(self.model_))

    def _whole(self):
        """Return the state of a complete copy (dict)."""
        state = {k: v for k, v in vars(self).items() if k not in self._derived}
        for name in self.get_params(deep=False):
            if isinstance(state[name], nn.Module):
                state[name] = on_cpu(state[name])
        return state

    def _slim(self):
        """Return the state of a copy that loads the frozen weights again (dict)."""
        state = self._whole()
        tables = [k for k, v in state.items() if isinstance(v, pd.DataFrame)]
        state |= {k: state[k].to_dict("list") for k in tables}
        return state | {"model_": slim_state(self.model_), "_tables": tables}

    def __getstate__(self):
        is_slim = get_config()["slim_pickles"] and self.__sklearn_is_fitted__()
        state = self._slim() if is_slim else self._whole()
        state.pop("_absent_device", None)
        sent = settings_to_send()
        return state | {"_settings": sent} if sent else state

    def _restore(self, state):
        """Set the attributes of a copy from its state."""
        tables = state.pop("_tables", ())
        vars(self).update(state)
        vars(self).update({name: pd.DataFrame(state[name]) for name in tables})
        model = state.get("model_")
        if isinstance(model, dict):
            self.model_ = object.__new__(FittedModel)
            self.model_.__setstate__(model)
        if model is not None:
            self._derive()

    def __setstate__(self, state):
        state = dict(state)
        adopt_settings(state.pop("_settings", {}))
        if "model_" in state and not has_device(state["device"]):
            self._absent_device = state["device"]
            warnings.warn(
                f"This {type(self).__name__} was fitted with "
                f"device={state['device']!r}, which this machine does not have. It "
                "predicts on the CPU.",
                stacklevel=2,
            )
        self._restore(state)

    def __deepcopy__(self, memo):
        """Copy the estimator with its frozen weights, also with `slim_pickles`."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin._restore(copy.deepcopy(self._whole(), memo))
        return twin
