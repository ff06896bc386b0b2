"""Google's speech embedding: a network for spoken words on log-mel spectra."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._files import check_weights_file
from sktransfer.backbones._layout import StagedModule
from sktransfer.inputs import AudioPreprocessing, LogMel

NAME = "speech_embedding"
PATH = Path(__file__).parent / "weights" / f"{NAME}.safetensors"
LICENSE = "apache-2.0"
N_PARAMETERS = 328_224
_SHA256 = "4e6dace813804c9f664ea92d75b1fc316aea7ee5eedc69ccea2d65de9743587b"
# Channels of each block but the first, and what its maxima are taken over, in frames
# and bands.
_BLOCKS = ((48, (1, 2)), (72, (2, 2)), (96, (1, 2)), (96, (2, 2)))
_SLOPE = 0.2  # of negative values
_LOWEST = -0.4


class Block(nn.Module):
    """Convolutions and maxima over a spectrum of any number of frames.

    Convolutions over time have no padding. A position of the result is valid if all
    frames that it depends on are.

    Parameters
    ----------
    *layers : torch.nn.Module
        What is computed, one after the other.
    n_before : int
        Number of channels of the input.
    """

    def __init__(self, *layers: nn.Module, n_before: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.steps = tuple(map(_step_over_time, layers))
        self.n_before = n_before

    def forward(self, state: dict) -> dict:
        """Compute the next state.

        Parameters
        ----------
        state : dict of str to Tensor
            ``"hidden"`` of shape (n, frames, channels * bands), and the ``"mask"`` of
            valid frames (n, frames).

        Returns
        -------
        state : dict of str to Tensor
            The same, of fewer frames and bands and of more channels.
        """
        hidden, mask = state["hidden"], state["mask"]
        x = hidden.unflatten(2, (self.n_before, -1)).transpose(1, 2)  # (n, c, t, f)
        x = self.layers(x)
        for size, stride in self.steps:
            mask = mask[:, size - 1 :: stride]
        x = x.transpose(1, 2).flatten(2)  # (n, t, c * f)
        return {"hidden": x.masked_fill(~mask[..., None], 0), "mask": mask}


def _step_over_time(layer):
    """Return of how many frames a layer makes one, and from one to the next."""
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size[0], 1
    if isinstance(layer, nn.MaxPool2d):
        return layer.kernel_size[0], layer.kernel_size[0]
    return 1, 1


class BoundedLeakyReLU(nn.Module):
    """Leaky ReLU that is never lower than -0.4."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it to each value.

        Parameters
        ----------
        x : Tensor
            Values.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        return F.leaky_relu(x, _SLOPE).clamp(min=_LOWEST)


def make_network() -> StagedModule:
    """Return the network with random weights: five blocks, and the embedding.

    It takes a log-mel spectrum of 32 bands and any number of frames from 76 on, and has
    one embedding for every 8 of them.
    """
    first = [
        *_convolution(1, 24, (3, 3)),
        *_convolution(24, 24, (1, 3)),
        *_convolution(24, 24, (3, 1)),
        nn.MaxPool2d((2, 2)),
    ]
    stages = {"block0": Block(*first, n_before=1)}
    n_before = 24
    for i, (n, pool) in enumerate(_BLOCKS, start=1):
        stages[f"block{i}"] = _block(n_before, n, pool)
        n_before = n
    last = nn.Conv2d(n_before, n_before, (3, 1))
    stages["embedding"] = Block(last, n_before=n_before)
    return StagedModule(stages)


def _block(n_before, n, pool):
    """Return convolutions over frequency and over time, twice, and the maxima."""
    layers = [
        *_convolution(n_before, n, (1, 3)),
        *_convolution(n, n, (3, 1)),
        *_convolution(n, n, (1, 3)),
        *_convolution(n, n, (3, 1)),
    ]
    return Block(*layers, nn.MaxPool2d(pool), n_before=n_before)


def _convolution(n_before, n, size):
    """Return a convolution, padded over frequency only, and its activation."""
    padding = (0, size[1] // 2)
    return nn.Conv2d(n_before, n, size, padding=padding), BoundedLeakyReLU()


def load_speech_embedding(*, weights: str | None, make: Any) -> Backbone:
    """Load the network with its weights, or with random ones.

    Parameters
    ----------
    weights : str or None
        ``"default"``, or None for random ones.
    make : callable
        Calls a function under a local seed.
    """
    module = make(make_network)
    if weights is not None:
        check_weights_file(NAME, os.fspath(PATH), _SHA256, "Reinstall sktransfer")
        module.load_state_dict(load_file(PATH))
    return Backbone(
        module,
        preprocessing=_preprocessing(),
        name=NAME,
        weights=None if weights is None else "default",
        license=LICENSE,
    )


def _preprocessing():
    return AudioPreprocessing(
        sampling_rate=16_000,
        front_end=LogMel(
            n_mels=32,
            low=60.0,
            high=3800.0,
            window=400,
            hop=160,
            n_fft=512,
            n_frames=76,
            step=8,
            full_scale=32768.0,
        ),
    )
