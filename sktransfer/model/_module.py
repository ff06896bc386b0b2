"""A fitted model as one PyTorch module that needs nothing else."""

import copy
import json
from importlib.metadata import version

import numpy as np
import torch
from torch import fx, nn

from sktransfer.backbones import Section
from sktransfer.inputs import modality_of


class ExportedModule(nn.Module):
    """Module from raw samples to the outputs of an estimator.

    Its parts are copies, in float32, on the CPU, in eval mode and without gradients.

    Parameters
    ----------
    preprocessing : ImagePreprocessing or VectorPreprocessing
    parts : list of torch.nn.Module
        Modules that are applied in turn, from model inputs to the output.
    output : str
        Name of the output.
    classes : ndarray of shape (n_classes,), default=None
        Labels of the columns of the output.
    value_range : tuple of float (low, high), default=None
        Values of black and of full intensity in the arrays of the fit.
    card : str, default=None
        The model card, in JSON.

    Attributes
    ----------
    preprocess : RawImages, RawRows or that of another modality
    network : torch.nn.Sequential
    classes_ : ndarray of shape (n_classes,) or None
    input_names : tuple of str
    output_name : str
    metadata : dict of str to str
        Entries for a file that the module is written to: JSON, except for names,
        versions and the key of the preprocessing.
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
        self.input_names = self.preprocess.names
        self.output_name = output
        self.metadata = _describe(preprocessing, output, classes, value_range)
        if card is not None:
            self.metadata["model_card"] = card
        self.eval().requires_grad_(False).to("cpu")

    def forward(
        self, samples: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the output.

        Parameters
        ----------
        samples : Tensor of shape (n, h, w, 3), (n, d) or (n, t)
            RGB images of any size, of uint8 or of floats in [0, 1], or rows of float32,
            or the token ids of texts. The output has gradients with respect to floats.
        attention_mask : Tensor of shape (n, t), default=None
            Of texts alone, 0 at padding. By default this is where their token ids end
            with those of padding.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        inputs = (samples,) if attention_mask is None else (samples, attention_mask)
        return self.network(self.preprocess(*inputs))

    def followed_by(
        self, parts: list[nn.Module], output: str, classes: np.ndarray | None
    ) -> "ExportedModule":
        """Return a copy in which other modules follow."""
        twin = copy.deepcopy(self)
        twin.network.extend(parts)
        twin.output_name, twin.metadata["output"] = output, output
        twin.classes_ = None
        twin.metadata.pop("classes", None)
        if classes is not None:
            twin.classes_ = np.array(classes)
            twin.metadata["classes"] = json.dumps(twin.classes_.tolist(), default=str)
        return twin.eval().requires_grad_(False)

    def example(
        self, n: int = 2, image_size=None
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return random samples to trace the module with: a tensor, or one per input.

        Images have the size `image_size`, or by default that of the model input.
        """
        return self.preprocess.example(n, image_size)


class StackedFeatures(nn.Module):
    """Pooled activations at some boundaries, side by side.

    The sections lead from the input to the first boundary, from there to the second,
    and so on, and each has a pool. ``order`` holds the positions of the boundaries
    whose features are returned.
    """

    def __init__(self, sections, pools, order):
        super().__init__()
        self.sections = nn.ModuleList(map(_alone, sections))
        self.pools = nn.ModuleList(map(_alone, pools))
        self.order = list(order)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Compute features (n, n_features) of model inputs (n, ...)."""
        pooled = []
        for section, pool in zip(self.sections, self.pools, strict=True):
            z = section(z)
            pooled.append(pool(z))
        return torch.cat([pooled[i] for i in self.order], dim=1)


class UnitsOfY(nn.Module):
    """Bring standardised predictions to the units of the targets, in float64.

    ``scale`` and ``mean`` are those of the targets, of shape (n_outputs,). ``flat``
    says whether there is one target, and no axis for it.
    """

    scale: torch.Tensor
    mean: torch.Tensor

    def __init__(self, scale, mean, flat):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.flat = flat

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Compute predictions of shape (n,) or (n, n_outputs) from scores."""
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
