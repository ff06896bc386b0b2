"""A backbone that is split at a boundary, and the parameters that it is built by."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer.activations import (
    ActivationLayout,
    Activations,
    FixedViews,
    FreshViews,
    Pool,
    Target,
    load_activations,
)
from sktransfer.backbones import Backbone, impurity_of
from sktransfer.compute import Runtime, map_state, use_channels_last
from sktransfer.fitting._in_common import check_weights
from sktransfer.inputs import modality_of
from sktransfer.model import FittedModel, LoadedBackbone, make_pool
from sktransfer.training import (
    ACTIVATION_AUGMENTATIONS,
    ActivationAugment,
    LabelledActivations,
    LabelledSamples,
    Network,
    Pooling,
    ResolvedRecipe,
    add_lora,
    choose_lr_ratio,
    merge_lora,
)
from sktransfer.utils import (
    content_stamp,
    describe,
    join_key,
    library_versions,
    warn_caller,
)


def head_boundary(backbone: Backbone, pooling: Pooling) -> str:
    """Return the boundary that the head sits on."""
    shape = backbone.activation_shape("features")
    own = isinstance(shape, tuple) and sum(n > 1 for n in shape) == 1
    if own and pooling.kind == "auto" and pooling.grid == 1:
        return "features"
    return backbone.stage_names[-1]


def suffix_above(
    backbone: Backbone, boundary: str, recipe: ResolvedRecipe
) -> nn.Module:
    """Return the stages between a boundary and the head."""
    end = head_boundary(backbone, recipe.pooling)
    if boundary == end:
        return nn.Identity()
    suffix = backbone.section(boundary, end)
    suffix.fixed_statistics = recipe.batch_norm == "eval"
    suffix.fixed_shared = True
    return suffix


def later_seed(seed: int, n_epochs: int) -> int:
    """Return the seed of a training that goes on after some epochs."""
    if not n_epochs:
        return seed
    return int(np.random.SeedSequence([seed, n_epochs]).generate_state(1)[0] >> 1)


def count_trainable(module: nn.Module) -> int:
    """Count the weights that require gradients."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@dataclass(frozen=True)
class SplitBackbone:
    """A backbone that is split at a boundary, for one training.

    Attributes
    ----------
    backbone : Backbone
        A fork, whose stages up to the boundary are frozen.
    boundary : str
    tap : torch.nn.Module
        Maps the activations at the boundary to what is trained on: a pool if only the
        head is trained, otherwise an identity.
    recipe : ResolvedRecipe
    runtime : Runtime
    store : Store
    seed : int
        Seed of random views, adapters and the head.
    """

    backbone: Backbone
    boundary: str
    tap: nn.Module
    recipe: ResolvedRecipe
    runtime: Runtime
    store: Any
    seed: int

    @property
    def origin(self) -> Backbone:
        """The backbone whose weights the frozen stages have."""
        return self.backbone.owner(self.boundary)

    @property
    def depth(self) -> int:
        """Number of whole frozen stages."""
        return self.backbone.n_stages_before(self.boundary)

    @property
    def target(self) -> Target:
        """Boundary and pool of the activations that are trained on."""
        return Target(self.boundary, self.tap)

    @property
    def head_boundary(self) -> str:
        """The boundary that the head sits on."""
        return head_boundary(self.backbone, self.recipe.pooling)

    @property
    def has_stages(self) -> bool:
        """Whether stages are trained, and not the head alone."""
        return not isinstance(self.tap, Pool)

    def load(self, samples, target: Target) -> tuple[Activations, list]:
        """Compute or look up the activations of samples at a target.

        The second value reports what the pass took from the store, computed and kept.
        """
        return load_activations(
            self.origin, target, samples, store=self.store, runtime=self.runtime
        )

    def load_labelled(
        self, data: LabelledSamples, y: torch.Tensor, target: Target
    ) -> tuple[LabelledActivations, list]:
        """Load activations to train on, and random views of them, and the report."""
        activations, report = self.load(data.samples, target)
        views = self.views(data.samples, target, activations)
        return LabelledActivations(activations, views, y, data.weight), report

    def views(
        self, samples, target: Target, activations: Activations
    ) -> FixedViews | FreshViews | None:
        """Return views of samples to train on, None if there are none.

        The activations are those of the samples themselves.
        """
        recipe, preprocessing = self.recipe, self.origin.preprocessing
        if recipe.views is None:
            return None
        modality, n_views = modality_of(backbone=preprocessing), recipe.n_views
        originals = None
        if recipe.views == "auto":
            if not (modality.n_views and self.has_stages):
                return None
            n_views, originals = modality.n_views, activations
        augment = modality.augmentation(recipe.views, preprocessing)
        source = self.origin, target, samples, augment
        if n_views is None:
            return FreshViews(*source, self.seed, runtime=self.runtime)
        return FixedViews(
            *source,
            n_views,
            self.seed,
            store=self.store,
            runtime=self.runtime,
            originals=originals,
        )

    def network(self, target: Target, suffix: nn.Module, head=None) -> Network:
        """Join what is trained above a target, on the device."""
        pool: nn.Module = nn.Identity()
        if not isinstance(target.tap, Pool):
            pool = make_pool(self.backbone, self.head_boundary, self.recipe.pooling)
        augment = self._augment(target)
        network = Network(suffix, pool, head, augment=augment)
        return use_channels_last(network).to(self.runtime.device)

    def model(
        self, loaded: LoadedBackbone, outputs, network: Network, card: dict
    ) -> FittedModel:
        """Return the model of a trained network above the boundary."""
        check_weights(self.runtime.ranks, network)
        is_pooled = isinstance(self.tap, Pool)
        pool: Any = self.tap if is_pooled else network.pool
        shape = self.backbone.activation_shape(
            self.boundary if is_pooled else self.head_boundary
        )
        n_features = pool.n_features(shape)
        network.impurity = _find_impurity(network.head, n_features)
        changed = {
            "backbone": self.backbone,
            "card": card,
            "taps": {self.boundary: self.tap},
            "network": network.eval(),
            "outputs": outputs,
            "n_features": n_features,
        }
        return FittedModel(**(vars(loaded) | changed))

    def layout(self, target: Target) -> ActivationLayout:
        """Return where the positions in the activations of a target are."""
        shape = map_state(lambda z: tuple(z.shape[1:]), self.example(target))
        return ActivationLayout(shape, self.backbone.preprocessing.input_shape)

    def example(self, target: Target):
        """Return activations of three generated samples at a target."""
        shape = self.backbone.activation_shape(target.boundary)
        if isinstance(shape, dict):  # whose ids and masks cannot be drawn
            x = self.backbone.preprocessing.example(3)
            with torch.no_grad():
                return target.tap(self.backbone.split(target.boundary)[0].eval()(x))
        return target.tap(torch.randn(3, *shape, generator=torch.Generator()))

    @contextlib.contextmanager
    def adapter(self, suffix: nn.Module) -> Iterator[None]:
        """Train the adapters of the recipe, if any, in place of the stages."""
        adapter = self.recipe.adapter
        if adapter is None or not self.has_stages:
            yield
            return
        trained = [p for p in suffix.parameters() if p.requires_grad]
        add_lora(suffix, rank=adapter.rank, alpha=adapter.alpha, seed=self.seed)
        try:
            yield
        finally:
            merge_lora(suffix)
            for parameter in trained:
                parameter.requires_grad_(True)

    def _augment(self, target):
        """Return the augmentation of activations at a target, or None."""
        chosen = self.recipe.activations
        is_bool = isinstance(chosen, bool | np.bool_)
        kinds = ACTIVATION_AUGMENTATIONS if is_bool else chosen
        unknown = {*kinds} - {*ACTIVATION_AUGMENTATIONS}
        if unknown:
            raise ValueError(
                "`augment__activations` must be a bool or hold some of "
                f"{list(ACTIVATION_AUGMENTATIONS)}. Got {sorted(unknown)[0]!r}."
            )
        if not chosen or isinstance(target.tap, Pool):
            return None
        return ActivationAugment(kinds, self.layout(target))


def _find_impurity(head, n_features):
    """Return why scores depend on more than their sample, if so, and warn of it."""
    if type(head) is nn.Linear:
        return None
    reason = impurity_of(head, torch.zeros(5, n_features))
    if reason is not None:
        warn_caller(
            f"The features of samples go through the head, a {type(head).__name__}, "
            f"one at a time: {reason}."
        )
    return reason


def split_backbone(
    backbone: Backbone,
    boundary: str,
    recipe: ResolvedRecipe,
    samples: Any,
    runtime: Runtime,
    store: Any,
    seed: int,
) -> tuple[SplitBackbone, nn.Module]:
    """Split a fork of a backbone at a boundary, and freeze the prefix.

    The learning rate of the stages above, if it is "auto", depends on the samples. The
    second value is the suffix, whose parameters require gradients.
    """
    end = head_boundary(backbone, recipe.pooling)
    tap: nn.Module = nn.Identity()
    if backbone.n_stages_before(boundary) == len(backbone.stages):
        boundary, tap = end, make_pool(backbone, end, recipe.pooling)
    fork = backbone.fork(boundary)
    suffix = suffix_above(fork, boundary, recipe).requires_grad_(True)
    if not isinstance(tap, Pool):  # with a pool, the whole backbone is frozen
        fork.section("input", boundary).freeze()
        if recipe.backbone_lr_ratio == "auto":
            ratio = choose_lr_ratio(backbone, samples, runtime.device)
            ratio = runtime.ranks.agree(ratio)
            recipe = replace(recipe, backbone_lr_ratio=ratio)
    elif recipe.backbone_lr_ratio == "auto":  # no stage is trained
        recipe = replace(recipe, backbone_lr_ratio=0.0)
    return SplitBackbone(fork, boundary, tap, recipe, runtime, store, seed), suffix


def describe_network(parameters: Mapping[str, Any]) -> dict[str, dict]:
    """Describe the parameters that determine a network, to detect changes later.

    Files are described by their content, and so are modules and callables, together
    with the versions of the libraries.
    """
    libraries = {"libraries": [sys.version, library_versions()]}
    return {
        name: _describe_parameter(value) | libraries
        for name, value in parameters.items()
    }


def _describe_parameter(value):
    value = value.item() if isinstance(value, np.generic) else value
    value = tuple(value) if isinstance(value, list) else value
    kind, content = _content(value)
    return {"shown": _show(value), "kind": kind, "content": content}


def _content(value):
    if isinstance(value, Backbone):
        return "object", value.fingerprint
    if isinstance(value, str | os.PathLike):
        if os.path.isfile(value):
            return "file", content_stamp(value)
        return "absent", os.fspath(value)
    is_plain = value is None or isinstance(value, int | float | tuple)
    return "plain" if is_plain else "object", join_key(describe(value), value)


def _show(value):
    if value is None or isinstance(value, str | int | float | tuple):
        return repr(value)
    name = getattr(value, "__qualname__", type(value).__name__)
    return os.fspath(value) if isinstance(value, os.PathLike) else f"<{name}>"


def check_unchanged(before: Mapping, now: Mapping, where: str, restart: str) -> None:
    """Raise an error if parameters that determine a network have changed.

    ``before`` and ``now`` are from :func:`describe_network`. ``where`` and ``restart``
    are parts of the message: where they must not change, and how to start again.
    """
    for name, new in now.items():
        old = before[name]
        if _is_same(old, new):
            continue
        after = f"after {name}={old['shown']}"
        if old["shown"] == new["shown"]:
            after = "whose content is not that of the first training"
        raise ValueError(
            f"`{name}` must not change {where}, which trains the fitted network "
            f"further. Got {name}={new['shown']} {after}; {restart} to start again."
        )


def _is_same(old, new):
    if old["content"] == new["content"]:
        return True
    # A file may be deleted once it was read, and libraries may be updated.
    is_gone = old["kind"] == "file" and new["kind"] == "absent"
    is_other = new["kind"] == "object" and old["libraries"] != new["libraries"]
    return (is_gone or is_other) and old["shown"] == new["shown"]
