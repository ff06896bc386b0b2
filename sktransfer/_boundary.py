"""A backbone that is cut at a boundary: what is trained above it, and on what."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer._values import AtBoundary, Labelled
from sktransfer.activations import (
    FixedViews,
    FreshViews,
    Layout,
    Pool,
    Target,
    draw_views,
    load_activations,
    name_of,
)
from sktransfer.backbones import Backbone
from sktransfer.compute import Runtime, map_state, use_channels_last
from sktransfer.inputs import modality_of
from sktransfer.model import FittedModel, LoadedBackbone, make_pool
from sktransfer.training import (
    ACTIVATION_AUGMENTATIONS,
    ActivationAugment,
    Augmentation,
    Network,
    Pooling,
    Recipe,
    add_lora,
    merge_lora,
    resolve_freeze,
)

__all__ = [
    "Boundary",
    "choose_boundary",
    "cut",
    "later_seed",
    "mean_scores",
    "random_views",
    "suffix_above",
]


def end_of(backbone: Backbone, pooling: Pooling) -> str:
    """Return the boundary that the head sits on."""
    shape = backbone.activation_shape("features")
    own = isinstance(shape, tuple) and sum(n > 1 for n in shape) == 1
    if own and pooling.kind == "auto" and pooling.grid == 1:
        return "features"
    return backbone.stage_names[-1]


def suffix_above(backbone: Backbone, boundary: str, recipe: Recipe) -> nn.Module:
    """Return the stages between a boundary and the head."""
    end = end_of(backbone, recipe.pooling)
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


def random_views(views: str | Callable, preprocessing) -> Callable:
    """Return the augmentation that `views` names.

    Parameters
    ----------
    views : str or callable
    preprocessing : Preprocessing

    Raises
    ------
    ValueError
        If samples of this modality cannot be augmented.
    """
    modality = modality_of(backbone=preprocessing)
    return modality.augmentation(views, preprocessing)


def mean_scores(
    model: FittedModel, samples, augment: Augmentation, **settings
) -> np.ndarray:
    """Compute the scores of samples, averaged over random views if `tta` says so.

    Parameters
    ----------
    model : FittedModel
    samples : Samples or VectorSamples
    augment : Augmentation
    **settings
        Of :meth:`FittedModel.scores`.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs), float64
    """
    scores = model.scores(samples, **settings)
    if augment.tta is None:
        return scores
    if augment.views is None:
        raise ValueError("`tta` needs `augment`, which draws the views.")
    views = random_views(augment.views, model.preprocessing)
    name = name_of(views)
    for number in range(augment.tta):
        drawn = draw_views(samples, views, name, 0, number)
        scores += model.scores(drawn, **settings)
    return scores / (1 + augment.tta)


@dataclass(frozen=True)
class Boundary:
    """A boundary of a backbone, and how samples are brought there for a training.

    Attributes
    ----------
    backbone : Backbone
        A fork, whose stages up to the boundary are frozen.
    name : str
    tap : torch.nn.Module
        From the activations at the boundary to what is trained on: a pool if only the
        head is trained, otherwise an identity.
    recipe : Recipe
    runtime : Runtime
    store : Store
    seed : int
        Of random views and adapters.
    """

    backbone: Backbone
    name: str
    tap: nn.Module
    recipe: Recipe
    runtime: Runtime
    store: Any
    seed: int

    @property
    def origin(self) -> Backbone:
        """The backbone that the frozen stages are those of."""
        return self.backbone.owner(self.name)

    @property
    def target(self) -> Target:
        """What the training takes of the frozen stages."""
        return Target(self.name, self.tap)

    @property
    def end(self) -> str:
        """The boundary that the head sits on."""
        return end_of(self.backbone, self.recipe.pooling)

    @property
    def has_stages(self) -> bool:
        """Whether stages are trained, and not the head alone."""
        return not isinstance(self.tap, Pool)

    def load(self, samples, target: Target):
        """Bring samples to a target, through the weights as they came.

        Parameters
        ----------
        samples : Samples or VectorSamples
        target : Target

        Returns
        -------
        activations : Activations
        report : list of dict
            What the pass took from the store, computed and kept.
        """
        return load_activations(
            self.origin, target, samples, store=self.store, runtime=self.runtime
        )

    def bring(
        self, data: Labelled, y: torch.Tensor, target: Target, *, as_they_are=False
    ) -> tuple[AtBoundary, list]:
        """Bring samples to a target, and random views of them.

        Parameters
        ----------
        data : Labelled
        y : torch.Tensor of shape (n_samples, ...)
            Their targets as training takes them.
        target : Target
        as_they_are : bool, default=False
            Whether to leave random views out, as for validation.

        Returns
        -------
        found : AtBoundary
        report : list of dict
            See :meth:`load`.
        """
        activations, report = self.load(data.samples, target)
        views = None if as_they_are else self.views(data.samples, target)
        return AtBoundary(activations, views, y, data.weight), report

    def views(self, samples, target: Target):
        """Return random views of samples to train on, None if there are none.

        Returns
        -------
        FixedViews, FreshViews or None
        """
        recipe = self.recipe
        if recipe.views is None:
            return None
        augment = random_views(recipe.views, self.origin.preprocessing)
        source = self.origin, target, samples, augment
        if recipe.n_views is None:
            return FreshViews(*source, self.seed, runtime=self.runtime)
        return FixedViews(
            *source, recipe.n_views, self.seed, store=self.store, runtime=self.runtime
        )

    def network(self, target: Target, suffix: nn.Module, head=None) -> Network:
        """Join what is trained above a target, on the device."""
        pool: nn.Module = nn.Identity()
        if not isinstance(target.tap, Pool):
            pool = make_pool(self.backbone, self.end, self.recipe.pooling)
        augment = self._augment(target)
        network = Network(suffix, pool, head, augment=augment)
        return use_channels_last(network).to(self.runtime.device)

    def model(
        self, loaded: LoadedBackbone, outputs, network: Network, card: dict
    ) -> FittedModel:
        """Return the model of a trained network above the boundary.

        Parameters
        ----------
        loaded : LoadedBackbone
        outputs : ClassOutputs or RegressionOutputs
        network : Network
        card : dict
            What its model card says.
        """
        is_pooled = isinstance(self.tap, Pool)
        pool: Any = self.tap if is_pooled else network.pool
        place = self.name if is_pooled else self.end
        given = {f.name: getattr(loaded, f.name) for f in fields(LoadedBackbone)}
        return FittedModel(
            **(given | {"backbone": self.backbone, "card": card}),
            taps={self.name: self.tap},
            network=network.eval(),
            outputs=outputs,
            n_features=pool.n_features(self.backbone.activation_shape(place)),
        )

    def layout(self, target: Target) -> Layout:
        """Return where the positions in the activations of a target are."""
        shape = map_state(lambda z: tuple(z.shape[1:]), self.example(target))
        return Layout(shape, self.backbone.preprocessing.input_shape)

    def example(self, target: Target):
        """Return activations of three made-up samples at a target."""
        shape = self.backbone.activation_shape(target.boundary)
        if isinstance(shape, dict):  # of which ids and masks cannot be drawn
            x = self.backbone.preprocessing.example(3)
            with torch.no_grad():
                return target.tap(self.backbone.split(target.boundary)[0].eval()(x))
        return target.tap(torch.randn(3, *shape, generator=torch.Generator()))

    @contextlib.contextmanager
    def adapter(self, suffix: nn.Module) -> Iterator[None]:
        """Train adapters instead of the stages, if the recipe says so."""
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
        """Return what activations at a target go through in training, or None."""
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


def choose_boundary(
    backbone: Backbone, freeze, n_samples: int, recipe: Recipe, method=None
) -> str:
    """Find the boundary that `freeze` asks for.

    Parameters
    ----------
    backbone : Backbone
    freeze : int, float or str
    n_samples : int
        What "auto" goes by. It leaves stages to a method that needs some.
    recipe : Recipe
    method : AdaptationMethod, default=None

    Raises
    ------
    ValueError
        If there is no such boundary, or the method changes stages and there are none
        above it.
    """
    boundary = resolve_freeze(freeze, backbone, n_samples)
    if method is None or not method.needs_stages:
        return boundary
    n_frozen, n_stages = backbone.n_stages_before(boundary), len(backbone.stages)
    if freeze == "auto":
        most = min(n_frozen, n_stages - 1)
        some = (backbone.boundary(n) for n in range(most, 0, -1))
        above = partial(suffix_above, backbone, recipe=recipe)
        return next((n for n in some if method.can_adapt(above(n))), "input")
    if n_frozen == n_stages:
        raise ValueError(
            f"`method={method.name!r}` changes the stages that are trained. Got "
            f"`freeze={freeze!r}`, which leaves none: freeze fewer, or put an "
            "adaptation of features behind a PretrainedFeatureExtractor."
        )
    return boundary


def cut(
    backbone: Backbone,
    boundary: str,
    recipe: Recipe,
    *,
    runtime: Runtime,
    store,
    seed: int,
) -> tuple[Boundary, nn.Module]:
    """Cut a backbone at a boundary; what lies before it is frozen.

    Parameters
    ----------
    backbone : Backbone
        As it was loaded; not changed.
    boundary : str
    recipe : Recipe
    runtime : Runtime
    store : Store
    seed : int

    Returns
    -------
    boundary : Boundary
    suffix : torch.nn.Module
        The stages above it, whose parameters require gradients.
    """
    end = end_of(backbone, recipe.pooling)
    tap: nn.Module = nn.Identity()
    if backbone.n_stages_before(boundary) == len(backbone.stages):
        boundary, tap = end, make_pool(backbone, end, recipe.pooling)
    fork = backbone.fork(boundary)
    suffix = suffix_above(fork, boundary, recipe).requires_grad_(True)
    if not isinstance(tap, Pool):  # otherwise nothing of the backbone is trained
        fork.section("input", boundary).freeze()
    return Boundary(fork, boundary, tap, recipe, runtime, store, seed), suffix
