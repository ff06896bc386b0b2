"""What the estimators share: from constructor parameters to samples and a backbone."""

import copy
import functools
import os
import warnings
from collections.abc import Mapping
from numbers import Integral

import numpy as np
import scipy.sparse
import torch
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metaestimators import available_if
from torch import nn

from sktransfer.activations import choose_precision, open_store
from sktransfer.backbones import (
    Backbone,
    ModelCard,
    card_of,
    describe_training,
    is_image_network,
    load_backbone,
    shared_backbone,
)
from sktransfer.compute import (
    Runtime,
    gains_by_bfloat16,
    own_torch_state,
    resolve_batch_size,
    resolve_device,
)
from sktransfer.export import ExportedModule, check_path, write_onnx
from sktransfer.inputs import as_samples, to_numpy
from sktransfer.utils import (
    Interval,
    StrOptions,
    adopt_settings,
    captioned_block,
    check_is_fitted,
    get_config,
    on_cpu,
    settings_to_send,
    spawn_seed,
    validate_data,
)

__all__ = ["BackboneEstimator", "as_array", "undone_on_error"]


def as_array(values):
    """Return a tensor as an array, and anything else as it is."""
    return to_numpy(values) if isinstance(values, torch.Tensor) else values


def undone_on_error(fit):
    """Let a method that fails leave the attributes of the estimator as they were.

    What the user has set torch to does not reach it, see `own_torch_state`.

    Parameters
    ----------
    fit : callable
        A method that sets attributes.

    Returns
    -------
    callable
        The same method, but for that.
    """

    @functools.wraps(fit)
    def fit_or_undo(self, *args, **kwargs):
        before = {**vars(self)}
        try:
            with own_torch_state():
                return fit(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return fit_or_undo


def looks_like_images(X):
    """Say whether X can only be images: paths, pictures, or arrays of 3 or 4 axes."""
    if not hasattr(X, "__getitem__") or scipy.sparse.issparse(X):
        return False
    if isinstance(X, torch.utils.data.Dataset) or getattr(X, "ndim", 0) in (3, 4):
        return True
    if getattr(getattr(X, "dtype", None), "kind", None) in ("S", "U"):
        return True
    if getattr(X, "ndim", 1) == 2 and X.shape[1] == 1:  # a column of a table
        X = np.asarray(X)[:, 0]
    elif hasattr(X, "to_numpy"):
        X = X.to_numpy()
    first = X[0] if len(X) else None
    if isinstance(first, tuple) and len(first) == 2:  # an image and its label
        first = first[0]
    return isinstance(first, str | bytes | os.PathLike | Image.Image) or (
        getattr(first, "ndim", 0) > 1
    )


class BackboneEstimator(BaseEstimator):
    """Base of the estimators that look at samples through a backbone."""

    _parameter_constraints = {
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
        "precision": [StrOptions({"auto", "float32"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    on_error = "raise"  # who trains needs every sample
    _absent_device = None  # the `device` of a fit elsewhere that is not found here

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if self._takes_images():
            tags.input_tags.two_d_array = self.image_shape is not None
            tags.input_tags.three_d_array = True
            tags.input_tags.string = True
        return tags

    def _takes_images(self, X=None):
        """Whether samples are images: as the backbone says, or else as X looks."""
        given = self._given_backbone()
        if isinstance(given, Backbone):
            return given.preprocessing.kind == "image"
        if isinstance(given, nn.Module) and is_image_network(given):
            return True
        if isinstance(given, str) or self.image_shape is not None:
            return True
        return X is not None and looks_like_images(X)

    def _given_backbone(self):
        """Return `backbone`; of a fitted estimator, the network that it trained."""
        given = self.backbone
        given = given.estimator if isinstance(given, FrozenEstimator) else given
        if not isinstance(given, BackboneEstimator):
            return given
        if not hasattr(given, "backbone_"):
            raise NotFittedError(
                f"`backbone` is a {type(given).__name__} that is not fitted. Fit it "
                "first; where it is cloned, as in a search, wrap it in "
                "sklearn.frozen.FrozenEstimator."
            )
        return given.backbone_

    def _check_X(self, X, *, reset):
        """Let scikit-learn check X where it is a table."""
        X = as_array(X)
        if not self._takes_images(X):
            return validate_data(self, X, reset=reset, dtype=np.float32)
        if getattr(X, "ndim", None) == 2:
            return validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def _load_backbone(self, X):
        """Load the backbone; the parameter is never changed."""
        seed, given = spawn_seed(self.random_state), self._given_backbone()
        if isinstance(given, Backbone):
            backbone = load_backbone(
                given, weights=self.weights, image_size=self.image_size
            )
            return copy.deepcopy(backbone)
        if isinstance(given, str):
            return shared_backbone(
                given,
                weights=self.weights,
                image_size=self.image_size,
                seed=seed,
            )
        is_image = self._takes_images(X)
        return load_backbone(
            given,
            weights=self.weights,
            image_size=self.image_size,
            n_features=None if is_image else X.shape[1],
            kind="image" if is_image else "vector",
            random_state=seed,
        )

    def _by_name(self):
        """Return what the same backbone is loaded by; None if that is an object."""
        weights, size = self.weights, self.image_size
        if not isinstance(self._given_backbone(), str) or isinstance(weights, Mapping):
            return None
        one_side = size is None or isinstance(size, Integral)
        return {
            "backbone": self.backbone,
            "weights": weights if weights is None else os.fspath(weights),
            "image_size": size if one_side else [*map(int, size)],
        }

    def _read(self, X, value_range):
        """From X, checked, to samples."""
        return as_samples(
            X,
            self.backbone_.preprocessing,
            image_shape=self.image_shape,
            value_range=value_range,
            on_error=self.on_error,
        )

    def _start(self, X):
        """Begin a fit: sets ``backbone_``, ``preprocessing_`` and ``value_range_``."""
        self.backbone_ = self._load_backbone(X)
        self._card = card_of(self.backbone_).to_dict()
        self.preprocessing_ = self.backbone_.preprocessing
        self._source = self._by_name()
        device = resolve_device(self.device)
        self._precision = choose_precision(self.backbone_, self.precision, device)
        self._activation_dtype = get_config()["activation_dtype"]
        samples = self._read(X, self.value_range)
        self.value_range_ = getattr(samples, "value_range", None)
        return samples

    def _samples(self, X):
        """Read X with what was fitted."""
        value_range = self.value_range_
        X = self._check_X(X, reset=False)
        return self._read(X, self.value_range if value_range is None else value_range)

    def _add_to_card(self, **entries):
        """Write into the card what was trained on top of the backbone."""
        described = describe_training(estimator=type(self).__name__, **entries)
        self._card = {**self._card, "trained": described}

    @property
    def model_card_(self):
        """Where the backbone comes from, its license, and what was trained on top."""
        check_is_fitted(self)
        return ModelCard(**self._card)

    def to_torch(self):
        """Return what was fitted as one module of PyTorch, which stands alone.

        It takes raw RGB images, a uint8 tensor of shape (n, h, w, 3) with any h and w,
        or rows, a float32 tensor of shape (n, d). It gives what `predict_proba` does,
        what `predict` does of a regressor, or the features of a transformer.

        All is in float32, so results differ by rounding from those of an estimator
        that computes frozen stages in bfloat16 or stores activations in 16 bits;
        ``precision="float32"`` and ``activation_dtype="float32"`` rule that out.

        Returns
        -------
        torch.nn.Module
            A copy in float32, on the CPU and in eval mode. ``classes_`` names the
            columns of probabilities.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it is not fitted.

        See Also
        --------
        to_onnx : Writes it to a file.
        """
        check_is_fitted(self)
        parts, output = self._parts()
        return ExportedModule(
            self.preprocessing_,
            parts,
            output,
            classes=getattr(self, "classes_", None),
            value_range=self.value_range_,
            card=self.model_card_.to_json(),
        )

    def to_onnx(self, path, *, image_size=None):
        """Write what :meth:`to_torch` gives to an ONNX file.

        onnxruntime computes a few made-up samples from the file before it takes the
        place of one that may have been there.

        Parameters
        ----------
        path : str or os.PathLike
            In a folder that exists.
        image_size : int or (int, int), default=None
            Height and width of the raw images that the file takes, in pixels. By
            default those of the model input. Their number is left open.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        ImportError
            If the extra ``onnx`` is not installed.
        ValueError
            If `path` is that of no file in a folder that exists, or `image_size` is no
            size.
        OSError
            If the file cannot be written, for lack of space or of permission.
        RuntimeError
            If the network cannot be translated to ONNX.
        """
        check_is_fitted(self)
        path = check_path(path)
        return write_onnx(self.to_torch(), path, image_size=image_size)

    def _store(self):
        return open_store(self.memory)

    def _runtime(self, batch_size="auto"):
        """Where and how samples go through the frozen prefix."""
        is_absent = self.device == self._absent_device
        device = resolve_device("cpu" if is_absent else self.device)
        sample_bytes = self.backbone_.largest_activation_bytes
        precision = self._precision
        if precision == "bfloat16" and not gains_by_bfloat16(device):
            precision = "folded"  # fitted on another machine
        return Runtime(
            device=device,
            batch_size=resolve_batch_size(batch_size, device, sample_bytes),
            precision=precision,
            activation_dtype=self._activation_dtype,
            verbose=self.verbose,
        )

    @available_if(lambda self: self.__sklearn_is_fitted__())
    def _sk_visual_block_(self):
        """Say in scikit-learn's diagrams what is frozen, once that is known."""
        return captioned_block(self, self._caption())

    def _whole(self):
        """Return all that a copy needs (dict)."""
        state = {k: v for k, v in vars(self).items() if k != "_pretrained"}
        given = {k: state[k] for k in self.get_params(deep=False)}
        modules = {k: v for k, v in given.items() if isinstance(v, nn.Module)}
        return state | {k: on_cpu(module) for k, module in modules.items()}

    def __getstate__(self):
        is_slim = get_config()["slim_pickles"] and self.__sklearn_is_fitted__()
        state = self._slim() if is_slim else self._whole()
        state = {k: v for k, v in state.items() if k != "_absent_device"}
        sent = settings_to_send()
        return state | {"_settings": sent} if sent else state

    def _restore(self, state):
        vars(self).update(state)

    def __setstate__(self, state):
        state = dict(state)
        adopt_settings(state.pop("_settings", {}))
        self._restore(state)
        if not self.__sklearn_is_fitted__():
            return
        try:
            resolve_device(self.device)
        except ValueError:
            self._absent_device = self.device
            warnings.warn(
                f"This {type(self).__name__} was fitted with device={self.device!r}, "
                "which this machine does not have. It predicts on the CPU.",
                stacklevel=2,
            )

    def __deepcopy__(self, memo):
        """Copy everything, whatever pickles leave out."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin._restore(copy.deepcopy(self._whole(), memo))
        return twin
