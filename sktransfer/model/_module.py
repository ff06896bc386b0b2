"""A fitted network as one module that stands alone."""

import copy
import json
from importlib.metadata import version

import numpy as np
import torch
from torch import fx, nn

from sktransfer.backbones import Section
from sktransfer.inputs import modality_of

__all__ = ["ExportedModule", "StackedFeatures", "UnitsOfY"]


class ExportedModule(nn.Module):
    """From raw samples to what an estimator says of them.

    Everything is a copy, in float32 and on the CPU, in eval mode and without
    gradients. What it was made from does not change with it.

    Parameters
    ----------
    preprocessing : ImagePreprocessing or VectorPreprocessing
    parts : list of torch.nn.Module
        From model inputs to the output.
    output : str
        What the output is called.
    classes : ndarray of shape (n_classes,), default=None
        What the columns of the output stand for.
    value_range : tuple of float (low, high), default=None
        Values of black and of full intensity in the arrays of the fit.
    card : str, default=None
        The model card, in JSON.

    Attributes
    ----------
    preprocess : RawImages, RawRows or that of another modality
    network : torch.nn.Sequential
    classes_ : ndarray of shape (n_classes,) or None
    input_name, output_name : str
    metadata : dict of str to str
        What a file that the module is written to should say of it; in JSON, but for
        names, versions and the key of the preprocessing.
    """

    def __init__(
        self,
        preprocessing,
        parts,
        output,
        *,
        classes=None,
        value_range=None,
        card=None,
    ):
        super().__init__()
        self.preprocess = modality_of(backbone=preprocessing).raw_input(preprocessing)
        self.network = nn.Sequential(*map(_alone, _without_identities(parts)))
        self.classes_ = None if classes is None else np.array(classes)
        self.input_name = self.preprocess.name
        self.output_name = output
        self.metadata = _describe(preprocessing, output, classes, value_range)
        if card is not None:
            self.metadata["model_card"] = card
        self.eval().requires_grad_(False).to("cpu")

    def forward(self, samples):
        """Compute the output.

        Parameters
        ----------
        samples : Tensor of shape (n, h, w, 3), uint8, or (n, d), float32
            RGB images of any size, the channels last; or rows.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        return self.network(self.preprocess(samples))

    def example(self, n=2, image_size=None):
        """Return random samples to trace the module with.

        Parameters
        ----------
        n : int, default=2
        image_size : int or tuple of int (h, w), default=None
            Of images, in px. By default that of the model input.

        Returns
        -------
        Tensor of shape (n, h, w, 3), uint8, or (n, d), float32

        Raises
        ------
        ValueError
            If `image_size` is no size, or there are no images.
        """
        return self.preprocess.example(n, image_size)


class StackedFeatures(nn.Module):
    """Pooled activations at some boundaries, side by side.

    Parameters
    ----------
    sections : list of torch.nn.Module
        From the input to the first boundary, from there to the second, and so on.
    pools : list of torch.nn.Module
        One for each.
    order : list of int
        Positions of the boundaries whose features are wanted, in this order.
    """

    def __init__(self, sections, pools, order):
        super().__init__()
        self.sections = nn.ModuleList(map(_alone, sections))
        self.pools = nn.ModuleList(map(_alone, pools))
        self.order = list(order)

    def forward(self, z):
        """Compute the features.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...)
            Model inputs.

        Returns
        -------
        torch.Tensor of shape (n, n_features)
        """
        pooled = []
        for section, pool in zip(self.sections, self.pools, strict=True):
            z = section(z)
            pooled.append(pool(z))
        return torch.cat([pooled[i] for i in self.order], dim=1)


class UnitsOfY(nn.Module):
    """Bring standardised predictions to the units of the targets, in float64.

    Parameters
    ----------
    scale, mean : ndarray of shape (n_outputs,)
        Of the targets.
    flat : bool
        Whether there is one target, and no axis for it.
    """

    def __init__(self, scale, mean, flat):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.flat = flat

    def forward(self, scores):
        """Compute predictions.

        Parameters
        ----------
        scores : torch.Tensor of shape (n, n_outputs)

        Returns
        -------
        float64 Tensor of shape (n,) or (n, n_outputs)
        """
        predicted = scores.double() * self.scale + self.mean
        return predicted[:, 0] if self.flat else predicted


def _alone(module):
    """Copy a module; a section becomes one that needs no backbone."""
    if isinstance(module, Section):
        module = fx.GraphModule(module, module.graph)
    return copy.deepcopy(module)


def _without_identities(parts):
    return [part for part in parts if not isinstance(part, nn.Identity)]


def _describe(preprocessing, output, classes, value_range):
    described = {
        "sktransfer_version": version("sktransfer"),
        "preprocessing": preprocessing.key(),
        "output": output,
        "value_range": json.dumps(None if value_range is None else list(value_range)),
    }
    if classes is not None:
        described["classes"] = json.dumps(np.asarray(classes).tolist(), default=str)
    return described
