"""How a training calls an adaptation method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from sktransfer.activations import Target
from sktransfer.compute import seeded
from sktransfer.fitting._split_backbone import SplitBackbone
from sktransfer.model import ClassOutputs, RegressionOutputs
from sktransfer.training import (
    ADAPTATION_METHODS,
    AdaptationContext,
    AdaptationMethod,
    AdaptationResult,
    Network,
    Objective,
    restore_weights_on_error,
    stages_above,
)


def _without_source():
    methods = ADAPTATION_METHODS.items()
    return [name for name, method in methods if not method.needs_source]


@dataclass(frozen=True)
class Adaptation:
    """An adaptation method, and the samples of the target domain, for one training.

    Attributes
    ----------
    method : AdaptationMethod
    samples : Samples or None
        Of the target domain, with ``digests``, in an order that does not depend on
        that of X. None if there are none.
    split : SplitBackbone
    outputs : ClassOutputs or RegressionOutputs
    callbacks : sequence
        The user's skorch callbacks.
    """

    method: AdaptationMethod
    samples: Any
    split: SplitBackbone
    outputs: ClassOutputs | RegressionOutputs
    callbacks: Sequence = ()

    @property
    def digests(self) -> list[bytes]:
        """Hashes of the target samples, for the names of checkpoints."""
        return [] if self.samples is None else [b"target", *self.samples.digests]

    @property
    def has_hook(self) -> bool:
        """Whether the method does something after the training."""
        return type(self.method).after_training is not AdaptationMethod.after_training

    def check(self) -> None:
        """Raise an error if the method lacks target samples or exclusive classes."""
        name = self.method.name
        if self.method.needs_source and self.samples is None:
            raise ValueError(
                f"`method={name!r}` needs target samples in `fit`. Got none: give "
                "`sample_domain` with negative numbers for them, or mask their labels."
            )
        if self.method.needs_source and self.split.runtime.ranks.n > 1:
            raise ValueError(
                f"`method={name!r}` compares whole batches, which "
                "`device='accelerate'` divides among processes. Train in one process, "
                f"or take a method that needs no source, of {_without_source()}."
            )
        if self.method.needs_classes and self.outputs.is_multilabel:
            suited = [
                name
                for name in ADAPTATION_METHODS
                if not ADAPTATION_METHODS[name].needs_classes
            ]
            raise ValueError(
                f"`method={name!r}` needs classes that exclude each other. Got "
                f"multilabel targets, which {suited} take."
            )

    def describe(self) -> dict:
        """Return the method and the number of target samples, for the model card."""
        n_samples = 0 if self.samples is None else len(self.samples)
        return {"method": self.method.name, "target_samples": n_samples}

    def prepare(self, suffix: nn.Module) -> None:
        """Let the method check or change the stages before the training."""
        network = self.split.network(self.split.target, suffix)
        self.method.before_training(self._context(network))

    def objective(
        self,
        network: Network,
        target: Target,
        function: Callable | None = None,
        span: tuple[float, float] = (0, 1),
    ) -> tuple[Objective | None, list]:
        """Return what is added to the loss, or None, and the report of its pass.

        ``function`` is that of an earlier phase of the training, and ``span`` says
        which part of the training this phase is.
        """
        if not self.method.needs_source:
            return None, []
        activations, views, report = self._load(target)
        seed = self.split.seed
        if function is None:  # the first phase
            n_features = network.features(activations[[0]], 1).shape[1]
            sizes = n_features, self.outputs.n_outputs, self.outputs.is_multilabel
            with seeded(seed):
                function = self.method.make_objective(*sizes, seed)
        weight = self.method.weight
        objective = Objective(function, views, weight=weight, seed=seed, span=span)
        return objective, report

    def adapt(self, network: Network, source, state) -> tuple[AdaptationResult, list]:
        """Let the method adapt a trained network, which is restored on an error.

        ``source`` holds labelled activations or is None, and ``state`` is what the
        method left before. The second value is the report of the pass.
        """
        target, views, report = None, None, []
        if self.samples is not None:
            target, views, report = self._load(self.split.target)
        given = {"target": target, "target_views": views, "state": state}
        if source is not None:
            given |= {"source": source.activations, "source_seen": source.probe_inputs}
        context = self._context(network.eval(), **given)
        with restore_weights_on_error(network):
            found = self.method.after_training(context)
        network.eval()
        return found or AdaptationResult(state), report

    def _load(self, target):
        """Return activations, what is trained on, and the report of their pass."""
        activations, report = self.split.load(self.samples, target)
        if getattr(self.split.recipe.views, "for_source_only", False):
            return activations, activations, report
        views = self.split.views(self.samples, target, activations)
        return activations, activations if views is None else views, report

    def _context(self, network, **given):
        split = self.split
        empty = dict.fromkeys(("source", "source_seen", "target", "target_views"))
        return AdaptationContext(
            network=network,
            backbone_name=split.backbone.name,
            boundary=split.boundary,
            target_digests=self.digests[1:],
            n_outputs=self.outputs.n_outputs,
            is_multilabel=self.outputs.is_multilabel,
            recipe=split.recipe,
            device=split.runtime.device,
            batch_size=split.runtime.batch_size,
            seed=split.seed,
            stages_above=stages_above(split.backbone, split.boundary),
            nonlinearity=self.outputs.nonlinearity(),
            adapter=split.adapter,
            callbacks=tuple(self.callbacks),
            verbose=split.runtime.verbose,
            **{**empty, "state": None, **given},
        )
