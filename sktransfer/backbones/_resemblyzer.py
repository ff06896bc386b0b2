"""Resemblyzer: a network for voices on mel spectra."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._files import check_weights_file, read_state_dict
from sktransfer.backbones._layout import StagedModule
from sktransfer.inputs import AudioPreprocessing
from sktransfer.inputs.audio._front_ends import MelWindows

NAME = "resemblyzer"
LICENSE = "apache-2.0"
N_PARAMETERS = 1_423_616
_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
_N_BANDS = 40
_WIDTH = 256


class VoiceLayers(nn.Module):
    """Three recurrent layers over the frames of each window of a recording."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(_N_BANDS, _WIDTH, 3, batch_first=True)

    def forward(self, state: dict) -> dict:
        """Return the last output for each window.

        Parameters
        ----------
        state : dict of str to Tensor
            ``"hidden"`` of shape (n, windows, frames * bands), and the ``"mask"`` of
            valid windows (n, windows).

        Returns
        -------
        state : dict of str to Tensor
            ``"hidden"`` of shape (n, windows, 256), and the mask.
        """
        hidden, mask = state["hidden"], state["mask"]
        frames = hidden.flatten(0, 1).unflatten(1, (-1, _N_BANDS))
        outputs, _ = self.lstm(frames)  # (n * windows, frames, 256)
        last = outputs[:, -1].unflatten(0, hidden.shape[:2])
        return {"hidden": last.masked_fill(~mask[..., None], 0), "mask": mask}


class VoiceEmbedding(nn.Module):
    """Embeddings of windows: not negative, and of unit length."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, state: dict) -> dict:
        """Return the embedding of each window.

        Parameters
        ----------
        state : dict of str to Tensor
            As :class:`VoiceLayers` returns it.

        Returns
        -------
        state : dict of str to Tensor
            Of the same shapes.
        """
        hidden = F.normalize(self.linear(state["hidden"]).relu(), dim=2)
        mask = state["mask"]
        return {"hidden": hidden.masked_fill(~mask[..., None], 0), "mask": mask}


def make_network() -> StagedModule:
    """Return the network with random weights.

    The features of a recording are the average of the embeddings of its windows,
    brought to unit length.
    """
    stages = {"lstm": VoiceLayers(), "embedding": VoiceEmbedding()}
    return StagedModule(stages, pooling="avg", normalize=True)


def load_resemblyzer(*, weights: str | None, make: Any) -> Backbone:
    """Load the network with the weights of the installed package, or random ones.

    Parameters
    ----------
    weights : str or None
        ``"default"``, or None for random ones.
    make : callable
        Calls a function under a local seed.
    """
    preprocessing: Any = AudioPreprocessing(16_000, MelWindows(n_mels=_N_BANDS))
    module = make(make_network)
    if weights is not None:
        path = _weights_path()
        hint = "Reinstall it with `pip install --force-reinstall --no-deps resemblyzer`"
        check_weights_file(NAME, path, _SHA256, hint)
        module.load_state_dict(renamed(read_state_dict(path), module))
    return Backbone(
        module,
        preprocessing=preprocessing,
        name=NAME,
        weights=None if weights is None else "default",
        license=LICENSE,
    )


def _weights_path():
    """Return the path of the weights, without importing the package."""
    found = find_spec("resemblyzer")
    if found is None:
        raise ImportError(
            "Backbone 'resemblyzer' needs the weights in the package resemblyzer: pip "
            "install --no-deps resemblyzer. What the package itself needs is not used."
        )
    (folder,) = found.submodule_search_locations
    return os.path.join(folder, "pretrained.pt")


def renamed(state: Mapping, network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint of Resemblyzer under the names of the stages.

    Those of its loss are left out.
    """
    names = {name.split(".", 2)[2]: name for name in network.state_dict()}
    shorts = {key: ".".join(key.split(".")[-2:]) for key in state}
    return {names[s]: state[key] for key, s in shorts.items() if s in names}
