"""A backbone that was loaded for a fit, and how samples are read and computed by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sktransfer.activations import forward_sizes
from sktransfer.backbones import Backbone
from sktransfer.compute import Runtime, gains_by_bfloat16, ranks_of, resolve_device
from sktransfer.inputs import Preprocessing, as_samples


@dataclass(frozen=True, eq=False)
class LoadedBackbone:
    """A backbone, and how samples are read and computed by its frozen stages.

    Attributes
    ----------
    backbone : Backbone
    value_range : tuple of float (low, high) or None
        Values of black and of full intensity in the arrays of the fit.
    source : dict or None
        ``backbone``, ``weights`` and ``image_size`` to load it by; None of an object.
    card : dict
        The entries of its :class:`~sktransfer.backbones.ModelCard`.
    precision : {"float32", "folded", "bfloat16"}
        Precision in which frozen stages are computed.
    activation_dtype : {"auto", "float16", "float32"}
        Type that activations are rounded to, see :func:`sktransfer.set_config`.
    """

    backbone: Backbone
    value_range: tuple | None
    source: dict | None
    card: dict
    precision: str
    activation_dtype: str

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing that the weights expect, from samples to model inputs."""
        return self.backbone.preprocessing

    def read(self, X: Any, *, image_shape: Any = None, on_error: str = "raise") -> Any:
        """Return X as samples, with the value range of the fit.

        Parameters
        ----------
        X : array-like of n_samples
            As in `fit` of the estimator.
        image_shape : tuple, default=None
            Shape of one image, ``(h, w)`` or ``(h, w, c)``, if X holds flat rows.
        on_error : {"raise", "warn"}, default="raise"
            "warn" accepts missing paths; see :meth:`features`.

        Returns
        -------
        Samples, or those of another modality

        Raises
        ------
        ValueError
            If X cannot be read.
        """
        return as_samples(
            X,
            self.preprocessing,
            image_shape=image_shape,
            value_range="auto" if self.value_range is None else self.value_range,
            on_error=on_error,
        )

    def runtime(
        self,
        device: str | torch.device = "auto",
        batch_size: int | str = "auto",
        verbose: int = 0,
    ) -> Runtime:
        """Return the settings of a forward pass.

        Parameters
        ----------
        device : str or torch.device, default="auto"
            A device of this machine. "auto" is a GPU if there is one, and "accelerate"
            the device that it gives this process.
        batch_size : int or "auto", default="auto"
            Number of samples per forward pass.
        verbose : int, default=0
            Whether to show a progress bar.

        Returns
        -------
        Runtime
        """
        where, ranks = resolve_device(device), ranks_of(device)
        precision = self.precision
        if precision == "bfloat16" and not gains_by_bfloat16(where):
            precision = "folded"  # fitted on another machine
        return Runtime(
            device=where,
            **forward_sizes(self.backbone, batch_size, where),
            precision=precision,
            activation_dtype=self.activation_dtype,
            verbose=verbose if ranks.is_first else 0,
            ranks=ranks,
        )
