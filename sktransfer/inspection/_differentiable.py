"""A fitted estimator or pipeline as a differentiable network, cut at any boundary."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import nn

from sktransfer.activations import ActivationLayout, Pool
from sktransfer.backbones import Backbone
from sktransfer.compute import resolve_device
from sktransfer.inputs import as_run
from sktransfer.inspection._unwrap import fitted_reader, unwrapped
from sktransfer.model import Features, TwoClasses, modules_of, steps_of
from sktransfer.utils import check_is_fitted


class _BothScores(nn.Module):
    """Scores of two classes from that of the second one."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return torch.cat([-scores, scores], dim=1) / 2


class _AsColumns(nn.Module):
    """Scores (n, n_outputs), also of a single output (n,)."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return scores[:, None] if scores.ndim == 1 else scores


@dataclass(frozen=True, eq=False)
class Differentiable:
    """A copy of a fitted network, from model inputs to scores, without any store.

    Attributes
    ----------
    backbone : Backbone
        A copy, in eval mode.
    end : str
        Boundary that the tail sits on.
    pool : Pool
        Pools the activations there.
    tail : torch.nn.Module
        From pooled features to scores (n, n_outputs).
    classes : ndarray of shape (n_outputs,) or None
        Classes of the scores; None for regression.
    device : torch.device
    """

    backbone: Backbone
    end: str
    pool: Pool
    tail: nn.Module
    classes: np.ndarray | None
    device: torch.device

    @classmethod
    def of(cls, estimator: Any) -> Differentiable:
        """Copy the network of a fitted estimator or a pipeline that begins with one."""
        check_is_fitted(estimator)
        reader, steps, classes = _parts_of(estimator)
        model = reader.model_
        if isinstance(model.outputs, Features):
            if not steps:
                raise TypeError(
                    "Explanations are of predictions. Got a "
                    f"{type(reader).__name__}, which predicts nothing; pass a pipeline "
                    "that ends with a linear model, or a fine-tuned estimator."
                )
            end, pool, tail = _of_features(model, steps)
        else:
            end, pool, tail = _of_network(model)
            classes = model.classes
        device = resolve_device(reader.device)
        backbone = copy.deepcopy(model.backbone)
        backbone.module.to(device).eval().requires_grad_(False)
        parts = [copy.deepcopy(pool), copy.deepcopy(tail)]
        pool, tail = (part.to(device).eval().requires_grad_(False) for part in parts)
        return cls(backbone, end, pool, tail, classes, device)

    def cut(self, boundary: str) -> tuple[nn.Module, nn.Module]:
        """Return the modules up to a boundary, and from there to the scores."""
        rest = nn.Sequential(self.pool, self.tail)
        if boundary != self.end:
            rest.insert(0, self.backbone.section(boundary, self.end).eval())
        return self.backbone.section("input", boundary).eval(), rest

    def network(self) -> nn.Module:
        """Return the module from model inputs to scores."""
        return nn.Sequential(*self.cut(self.end))

    def layout(self, boundary: str) -> ActivationLayout:
        """Return where the positions in the activations at a boundary are."""
        shape = self.backbone.activation_shape(boundary)
        return ActivationLayout(shape, self.backbone.preprocessing.input_shape)

    def last_map(self) -> str:
        """Return the last boundary whose activation is a map that the score rests on.

        With the pooling "cls", the patches of the last stage have no influence.
        """
        stages = self.backbone.stage_names
        n = self.backbone.n_stages_before(self.end)
        names = [*stages[:n], *([] if self.end in stages[:n] else [self.end])]
        last = len(names) - 1 if self.pool.pooling == "cls" else len(names)
        maps = [name for name in names[:last] if self._has_positions(name)]
        if not maps:
            raise ValueError(
                "Grad-CAM needs a stage whose activation is a map of several positions."
                f" {self.backbone.name} has none up to {self.end!r}; take "
                'method="integrated_gradients" or "occlusion", or larger images.'
            )
        return maps[-1]

    def check_map(self, stage: int | str) -> str:
        """Return the name of a stage; raise an error if its activation is no map."""
        name = self.backbone.boundary(stage)
        if name in self.backbone.in_order([name, self.end])[:1]:
            if self._has_positions(name):
                return name
            raise ValueError(
                f"`stage` must be one whose activation is a map. Got {stage!r}, whose "
                f"activation has the shape {self.backbone.activation_shape(name)}."
            )
        raise ValueError(
            f"`stage` must not be after {self.end!r}, where the features of the head "
            f"are taken. Got {stage!r}."
        )

    def _has_positions(self, boundary):
        layout = self.layout(boundary)
        if not layout.is_spatial:
            return False
        shape = self.backbone.activation_shape(boundary)
        if layout.kind == "tokens":
            return shape[0] - layout.n_extra > 1
        h, w = shape[1:] if layout.kind == "channels_first" else shape[:2]
        return h * w > 1

    def to_input(self, sample: Any) -> Any:
        """Return the model input of one sample, as a batch on the device."""
        preprocessing = as_run(self.backbone.preprocessing)
        prepared = preprocessing.prepare(sample)
        return preprocessing.to_input(_as_batch(prepared, self.device))


def _as_batch(prepared, device):
    if isinstance(prepared, dict):
        return {name: _as_batch(part, device) for name, part in prepared.items()}
    return torch.from_numpy(np.array(prepared))[None].to(device)


def _parts_of(estimator):
    """Return what reads the samples, the later steps of a pipeline, and classes."""
    inner = unwrapped(estimator)
    if not isinstance(inner, Pipeline):
        return fitted_reader(inner), [], None
    first, *others = steps_of(inner)
    reader, before, classes = _parts_of(first)  # which may be a pipeline itself
    if others:
        classes = getattr(others[-1], "classes_", None)
    return reader, [*before, *others], classes


def _of_network(model):
    """Return boundary, pool and tail of a fine-tuned model."""
    ((boundary, tap),) = model.taps.items()
    network = model.network
    if isinstance(tap, Pool):
        return boundary, tap, network.head
    return network.suffix.stop, network.pool, network.head


def _of_features(model, steps):
    """Return boundary, pool and tail of the features of one stage, and later steps."""
    if len(model.taps) > 1:
        raise ValueError(
            "Explanations need the features of one stage. Got those of "
            f"{[*model.taps]}; set `stage` to one of them."
        )
    ((boundary, pool),) = model.taps.items()
    parts = modules_of(steps)
    if isinstance(parts[-1], nn.Softmax):  # scores, not probabilities, are explained
        parts = parts[:-1]
    elif isinstance(parts[-1], TwoClasses):
        parts[-1] = _BothScores()
    return boundary, pool, nn.Sequential(*parts, _AsColumns())
