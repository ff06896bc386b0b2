"""Targets of a pass, the layout of their activations, and pooling."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

MASK = "mask"  # name, in a group of tensors, of the mask of valid positions
POOLINGS = ("avg", "max", "avgmax", "cls", "last", "flatten")  # see `Pool`
_MOST_EXTRA = 16  # tokens that are not patches


@dataclass(frozen=True)
class Target:
    """What a pass returns: the activations at a boundary, after a module, the tap."""

    boundary: str
    tap: nn.Module = field(default_factory=nn.Identity)


class Route:
    """Boundaries where a pass may start, and where it stops.

    A network is always computed from the end of one stage to the end of the next, so
    that activations are rounded at the same places wherever a pass began, whichever
    targets it has. A boundary inside a stage, or after the last stage, is computed from
    the end of the stage before it, and nothing else is computed from it.

    ``wanted`` are the boundaries of the targets, in order of execution; ``chain`` is
    the input and the ends of stages, up to the last one needed.
    """

    def __init__(self, backbone, wanted):
        self.wanted = backbone.in_order(wanted)
        n_stages = backbone.n_stages_before(self.wanted[-1])
        self.chain = ["input", *backbone.stage_names[:n_stages]]
        self._anchors = {
            name: name
            if name in self.chain
            else self.chain[backbone.n_stages_before(name)]
            for name in self.wanted
        }

    @property
    def starts(self) -> list[str]:
        """Boundaries that all targets can be computed from, the last one first.

        If a single boundary is wanted, it is one of them: its activation may be stored
        while the result of a tap is not.
        """
        first = self.wanted[0]
        reached = self.chain[: self.chain.index(self._anchors[first]) + 1]
        if len(self.wanted) == 1 and first not in reached:
            reached = [*reached, first]
        return reached[::-1]

    def steps(self, start: str) -> list[tuple[str, str]]:
        """Return the sections from a start, as pairs of boundaries, in order."""
        if start not in self.chain:
            return []
        steps = list(pairwise(self.chain[self.chain.index(start) :]))
        leaves = [name for name in self.wanted if name not in self.chain]
        return [*steps, *((self._anchors[leaf], leaf) for leaf in leaves)]


class ActivationLayout:
    """Which axes of one sample's activation are spatial, and which are channels.

    Parameters
    ----------
    shape : tuple of int or dict of str to tuple
        Shape of one sample's activation.
    input_shape : tuple of int
        Shape of one model input.

    Attributes
    ----------
    kind : str
        "vector", "tokens", "channels_first", "channels_last", "sequence" or "other".
        A map is "channels_last" if its aspect ratio is closer to that of the model
        input in this order than in the other one. A group of tensors is a sequence,
        whose length differs between samples.
    n_extra : int
        Number of leading tokens that are not patches (class, distillation, registers).
    grid : tuple of int (h, w) or None
        Shape of the grid that the other tokens form; None for other kinds.
    """

    def __init__(self, shape, input_shape):
        self.kind = _kind(shape, input_shape)
        self.n_extra, self.grid = 0, None
        if self.kind == "tokens":
            self.n_extra = _n_extra_tokens(shape[0], input_shape)
            n_patches = shape[0] - self.n_extra
            height, width = _grid(n_patches, input_shape)
            fits = height * width == n_patches
            self.grid = (height, width) if fits else (1, n_patches)

    @property
    def is_spatial(self) -> bool:
        """Whether the activation is a feature map or a grid of patches (bool)."""
        return self.kind in ("tokens", "channels_first", "channels_last")

    def to_map(self, z: torch.Tensor) -> torch.Tensor:
        """Return the map (n, c, h, w) of activations, without the extra tokens."""
        if self.kind == "channels_last":
            return z.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            patches = z[:, self.n_extra :]  # (n, t, c)
            return patches.transpose(1, 2).unflatten(2, self.grid)
        return z

    def from_map(self, places: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return z with its map replaced by another (n, c, h, w); extra tokens stay."""
        if self.kind == "channels_last":
            return places.permute(0, 2, 3, 1)
        if self.kind == "tokens":
            patches = places.flatten(2).transpose(1, 2)
            return torch.cat([z[:, : self.n_extra], patches], 1)
        return places


def _kind(shape, input_shape):
    if isinstance(shape, dict):
        return "sequence"
    if len(shape) in (1, 2):
        return "vector" if len(shape) == 1 else "tokens"
    if len(shape) != 3 or len(input_shape) != 3:
        return "other"
    aspect = math.log(input_shape[1] / input_shape[2])
    first = abs(math.log(shape[1] / shape[2]) - aspect)
    last = abs(math.log(shape[0] / shape[1]) - aspect)
    return "channels_last" if last < first else "channels_first"


def _grid(n_tokens, input_shape):
    """Return the height and width of the largest grid of the input's proportions."""
    if len(input_shape) != 3:
        return 1, n_tokens
    aspect = input_shape[1] / input_shape[2]
    width = math.floor(math.sqrt(n_tokens / aspect) + 1e-9)
    return max(1, round(width * aspect)), max(1, width)


def _n_extra_tokens(n_tokens, input_shape):
    height, width = _grid(n_tokens, input_shape)
    extra = n_tokens - height * width
    return extra if 0 <= extra <= _MOST_EXTRA else 0


def hidden_of(state: Any) -> Any:
    """Return the first tensor of a group that is not the mask, or the only tensor."""
    if not isinstance(state, dict):
        return state
    return next(part for name, part in state.items() if name != MASK)


def check_pooling(pooling: str, shape: Any, input_shape: Any, where: str) -> None:
    """Raise a ValueError if a pooling does not fit the activation of stage `where`.

    "cls" needs a class token, "last" sequences, and "flatten" samples of one length.
    The shapes are those of :class:`ActivationLayout`.
    """
    layout = ActivationLayout(shape, input_shape)
    if pooling == "flatten" and layout.kind == "sequence":
        raise ValueError(
            f"`pooling='flatten'` needs activations of one shape, and those of stage "
            f"{where!r} are as long as their samples. Use 'avg', 'max' or 'avgmax'."
        )
    if pooling == "last" and layout.kind != "sequence":
        raise ValueError(
            f"`pooling='last'` needs sequences, and the activation of stage {where!r} "
            f"has the shape {shape}. Use 'avg', 'max' or 'avgmax'."
        )
    if pooling == "cls" and not (layout.n_extra or layout.kind == "sequence"):
        raise ValueError(
            f"`pooling='cls'` needs a class token, and the activation of stage "
            f"{where!r} has none: its shape is {shape}. Use 'avg', 'max' or 'avgmax'."
        )


class Pool(nn.Module):
    """Pool activations of any layout to vectors (n, d).

    "avg" and "max" pool the map to a grid of `pool_size` by `pool_size` cells, and
    "avgmax" joins both; "cls" takes the first token, "last" the last one of a sequence,
    and "flatten" keeps everything. Tokens that are not patches, and positions that the
    mask of a sequence marks as padding, are left out of averages and maxima. A sequence
    has one cell. If its mask has windows (n, w, t), averages and maxima are over the
    tokens of all of them, and "cls" and "last" are averaged over the windows. With
    `normalize`, the vectors are divided by their Euclidean norm. See
    :class:`ActivationLayout` for the shapes.
    """

    def __init__(self, pooling, pool_size, shape, input_shape, normalize=False):
        super().__init__()
        self.pooling = pooling
        self.normalize = normalize
        self.layout = ActivationLayout(shape, input_shape)
        is_sequence = self.layout.kind == "sequence"
        self.pool_size = 1 if is_sequence else pool_size
        self.keeps_all = not is_sequence and (
            pooling == "flatten" or not self.layout.is_spatial
        )

    def n_features(self, shape: Any) -> int:
        """Count the features of one sample whose activation has a shape."""
        shape = hidden_of(shape)
        if self.keeps_all:
            return math.prod(shape)
        channels = shape[0] if self.layout.kind == "channels_first" else shape[-1]
        if self.pooling in ("cls", "last"):
            return channels
        return channels * self.pool_size**2 * (2 if self.pooling == "avgmax" else 1)

    def extra_repr(self) -> str:
        """Return the settings, for the representation."""
        layout = self.layout.kind
        return f"{self.pooling!r}, pool_size={self.pool_size}, layout={layout!r}"

    def forward(self, z: Any) -> torch.Tensor:
        """Pool a batch (n, ...) to vectors (n, d) of float32."""
        pooled = self._pooled(z).float()  # networks may return other types
        return F.normalize(pooled) if self.normalize else pooled

    def _pooled(self, z):
        if self.keeps_all:
            return z.flatten(1)
        if self.pooling in ("cls", "last"):
            return _over_windows(_first if self.pooling == "cls" else _last_valid, z)
        if self.layout.kind == "sequence":
            average, largest = _masked_average, _masked_maximum
        else:
            z = self.layout.to_map(z)  # (n, c, h, w)
            average, largest = self._average, self._maximum
        parts = [average(z)] if self.pooling in ("avg", "avgmax") else []
        parts += [largest(z)] if self.pooling in ("max", "avgmax") else []
        return torch.cat(parts, 1)

    def _average(self, z):
        return F.adaptive_avg_pool2d(z, self.pool_size).flatten(1)

    def _maximum(self, z):
        return F.adaptive_max_pool2d(z, self.pool_size).flatten(1)


def _over_windows(pool, state):
    """Pool each window of sequences (n, w, t, ...), and average over the windows.

    Activations without windows are pooled as they are.
    """
    mask = state.get(MASK) if isinstance(state, dict) else None
    if mask is None or mask.ndim == 2:
        return pool(state)
    windows = {name: part.flatten(0, 1) for name, part in state.items()}
    return pool(windows).unflatten(0, mask.shape[:2]).mean(1)


def _first(z):
    """Return the first token (n, c)."""
    return hidden_of(z)[:, 0]


def _masked_average(state):
    """Average the valid positions of sequences to (n, c); zeros if there are none."""
    z, is_valid = _hidden_and_mask(state)
    return z.masked_fill(~is_valid, 0).sum(1) / is_valid.sum(1).clamp_min(1)


def _masked_maximum(state):
    """Return the maximum over the valid positions (n, c); zeros if there are none."""
    z, is_valid = _hidden_and_mask(state)
    largest = z.masked_fill(~is_valid, -torch.inf).amax(1)
    return largest.masked_fill(~is_valid.any(1), 0)


def _last_valid(state):
    """Return the hidden states of the last valid positions (n, c)."""
    z, is_valid = _hidden_and_mask(state)
    places = torch.arange(z.shape[1], device=z.device)[:, None]  # (t, 1)
    last = (is_valid * places).amax(1)  # (n, 1)
    return z.gather(1, last[:, None].expand(-1, -1, z.shape[2]))[:, 0]


def _hidden_and_mask(state):
    """Return the hidden states (n, t, c), and the mask of valid positions (n, t, 1).

    The windows of a sequence (n, w, t, c) follow one another.
    """
    z = hidden_of(state)
    mask = state.get(MASK, z.new_ones(z.shape[:2]))
    if mask.ndim == 3:
        z, mask = z.flatten(1, 2), mask.flatten(1)
    return z, mask.bool()[..., None]
