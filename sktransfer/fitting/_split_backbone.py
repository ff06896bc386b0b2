"""A backbone that is split at a boundary, and samples on their way there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

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
    digest_samples,
    load_activations,
)
from sktransfer.backbones import Backbone
from sktransfer.compute import Runtime, map_state, use_channels_last
from sktransfer.inputs import modality_of, to_numpy
from sktransfer.model import FittedModel, LoadedBackbone, make_pool
from sktransfer.training import (
    ACTIVATION_AUGMENTATIONS,
    ActivationAugment,
    AdaptationMethod,
    Data,
    Network,
    Pooling,
    ResolvedRecipe,
    add_lora,
    merge_equal,
    merge_lora,
    resolve_freeze,
)
from sktransfer.utils import check_consistent_length, check_sample_weight, warn_caller


def targets_of(samples, y, name="y"):
    """Return targets or, without any, the labels of the samples."""
    y = samples.labels if y is None else y
    if y is None:
        raise ValueError(
            f"`{name}` is needed, as the samples are no Dataset with labels. The "
            "estimator requires y to be passed, but the target y is None."
        )
    y = to_numpy(y) if isinstance(y, torch.Tensor) else y
    check_consistent_length(samples, y)
    return y


class LabelledSamples(NamedTuple):
    """Distinct samples, which have ``digests``, their encoded targets and weights.

    ``y`` has the shape (n_samples, ...), and ``weight`` the shape (n_samples,).
    """

    samples: Any
    y: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, samples, y, sample_weight, outputs, weigh: Callable) -> LabelledSamples:
        """Encode targets, merge equal samples, and leave out those without weight.

        ``weigh`` maps targets, given weights and outputs to the weights of samples.
        """
        codes = outputs.encode(y)
        weight = check_sample_weight(
            sample_weight, codes, dtype=np.float64, ensure_non_negative=True
        )
        weight = weigh(y, weight, outputs)
        digests = digest_samples(samples)
        _warn_if_all_equal(digests)
        rows, weight = merge_equal(digests, [c.tobytes() for c in codes], weight)
        return cls(_take(samples, digests, rows), codes[rows], weight)

    def hold_out(self, held: np.ndarray) -> tuple[LabelledSamples, LabelledSamples]:
        """Return the samples that are not held out, and those that are."""
        rest = np.setdiff1d(np.arange(len(self.y)), held)
        return self._take(rest), self._take(held)

    def _take(self, rows):
        samples = _take(self.samples, self.samples.digests, rows)
        return LabelledSamples(samples, self.y[rows], self.weight[rows])


class LabelledActivations(NamedTuple):
    """Activations of samples, random views of them, and targets and weights.

    ``views`` is None if there are none. ``y`` has the shape (n_samples, ...), and
    ``weight`` the shape (n_samples,).
    """

    activations: Activations
    views: FixedViews | FreshViews | None
    y: torch.Tensor
    weight: np.ndarray

    @property
    def data(self) -> Data:
        """What epochs are trained on."""
        seen = self.activations if self.views is None else self.views
        return Data(seen, self.y, self.weight)

    @property
    def probe_inputs(self) -> list:
        """Fixed views where there are some; otherwise the samples as they are."""
        if isinstance(self.views, FixedViews):
            return self.views.views
        return [self.activations]


def sort_by_content(samples):
    """Return samples in the order of their contents, with ``digests``."""
    digests = digest_samples(samples)
    return _take(samples, digests, sorted(range(len(digests)), key=digests.__getitem__))


def _take(samples, digests, rows):
    """Return some of the samples, with their digests."""
    taken = samples.take(rows)
    taken.digests = [digests[row] for row in rows]
    return taken


def _warn_if_all_equal(digests):
    if len(digests) > 1 and len({*digests}) == 1:
        warn_caller(
            f"All {len(digests)} samples are equal, so nothing distinguishes them. "
            "Look at `X[0]` and at how `X` was made."
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
        From the activations at the boundary to what is trained on: a pool if only the
        head is trained, otherwise an identity.
    recipe : ResolvedRecipe
    runtime : Runtime
    store : Store
    seed : int
        Of random views and adapters.
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
        """What the training takes from the frozen stages."""
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
        views = self.views(data.samples, target)
        return LabelledActivations(activations, views, y, data.weight), report

    def views(self, samples, target: Target) -> FixedViews | FreshViews | None:
        """Return random views of samples to train on, None if there are none."""
        recipe, preprocessing = self.recipe, self.origin.preprocessing
        if recipe.views is None:
            return None
        modality = modality_of(backbone=preprocessing)
        augment = modality.augmentation(recipe.views, preprocessing)
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
            pool = make_pool(self.backbone, self.head_boundary, self.recipe.pooling)
        augment = self._augment(target)
        network = Network(suffix, pool, head, augment=augment)
        return use_channels_last(network).to(self.runtime.device)

    def model(
        self, loaded: LoadedBackbone, outputs, network: Network, card: dict
    ) -> FittedModel:
        """Return the model of a trained network above the boundary."""
        is_pooled = isinstance(self.tap, Pool)
        pool: Any = self.tap if is_pooled else network.pool
        shape = self.backbone.activation_shape(
            self.boundary if is_pooled else self.head_boundary
        )
        given = {f.name: getattr(loaded, f.name) for f in fields(LoadedBackbone)}
        return FittedModel(
            **(given | {"backbone": self.backbone, "card": card}),
            taps={self.boundary: self.tap},
            network=network.eval(),
            outputs=outputs,
            n_features=pool.n_features(shape),
        )

    def layout(self, target: Target) -> ActivationLayout:
        """Return where the positions in the activations of a target are."""
        shape = map_state(lambda z: tuple(z.shape[1:]), self.example(target))
        return ActivationLayout(shape, self.backbone.preprocessing.input_shape)

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
        """Train adapters instead of the stages, if the recipe has some."""
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
    backbone: Backbone,
    freeze: int | float | str,
    n_samples: int,
    recipe: ResolvedRecipe,
    method: AdaptationMethod | None,
) -> str:
    """Find the boundary that `freeze` asks for.

    With "auto", it depends on the number of samples, and leaves stages to an adaptation
    method that needs some.
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


def split_backbone(
    backbone: Backbone,
    freeze: int | float | str,
    n_samples: int,
    recipe: ResolvedRecipe,
    method: AdaptationMethod | None = None,
    *,
    runtime: Runtime,
    store,
    seed: int,
) -> tuple[SplitBackbone, nn.Module]:
    """Split a fork of a backbone where `freeze` asks for, and freeze the prefix.

    The second value is the suffix, whose parameters require gradients.
    """
    boundary = choose_boundary(backbone, freeze, n_samples, recipe, method)
    end = head_boundary(backbone, recipe.pooling)
    tap: nn.Module = nn.Identity()
    if backbone.n_stages_before(boundary) == len(backbone.stages):
        boundary, tap = end, make_pool(backbone, end, recipe.pooling)
    fork = backbone.fork(boundary)
    suffix = suffix_above(fork, boundary, recipe).requires_grad_(True)
    if not isinstance(tap, Pool):  # otherwise nothing of the backbone is trained
        fork.section("input", boundary).freeze()
    return SplitBackbone(fork, boundary, tap, recipe, runtime, store, seed), suffix
