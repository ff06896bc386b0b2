"""How a training calls an adaptation method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from sktransfer._boundary import Boundary
from sktransfer.compute import seeded
from sktransfer.model import ClassOutputs, RegressionOutputs
from sktransfer.training import (
    AdaptationContext,
    AdaptationMethod,
    Adapted,
    Network,
    Objective,
    put_back_on_error,
    stages_above,
)

__all__ = ["Adaptation"]


@dataclass(frozen=True)
class Adaptation:
    """An adaptation method, and the samples of the target domain.

    Attributes
    ----------
    method : AdaptationMethod
    samples : Samples or None
        Of the target domain, with ``digests``, in an order that does not depend on
        that of X. None if there are none.
    boundary : Boundary
    outputs : ClassOutputs or RegressionOutputs
    callbacks : sequence
        The user's skorch callbacks.
    """

    method: AdaptationMethod
    samples: Any
    boundary: Boundary
    outputs: ClassOutputs | RegressionOutputs
    callbacks: Sequence = ()

    @property
    def digests(self) -> list[bytes]:
        """Hashes of the target samples, without which a training is another one."""
        return [] if self.samples is None else [b"target", *self.samples.digests]

    @property
    def has_hook(self) -> bool:
        """Whether the method does something after the training."""
        return type(self.method).after_training is not AdaptationMethod.after_training

    def check(self) -> None:
        """Raise an error if the method lacks what it adapts to or by."""
        name = self.method.name
        if self.method.needs_source and self.samples is None:
            raise ValueError(
                f"`method={name!r}` needs target samples in `fit`. Got none: give "
                "`sample_domain` with negative numbers for them, or mask their labels."
            )
        if self.method.needs_classes and self.outputs.is_multilabel:
            raise ValueError(
                f"`method={name!r}` needs classes that exclude each other. Got "
                "multilabel targets; 'coral', 'mmd', 'jmmd', 'dann' and 'adabn' take "
                "them."
            )

    def describe(self) -> dict:
        """Return the method and the number of target samples, for the model card."""
        n_samples = 0 if self.samples is None else len(self.samples)
        return {"method": self.method.name, "target_samples": n_samples}

    def prepare(self, suffix: nn.Module) -> None:
        """Let the method check or change the stages before the training."""
        network = self.boundary.network(self.boundary.target, suffix)
        self.method.before_training(self._context(network))

    def objective(self, network: Network, target, function=None, span=(0.0, 1.0)):
        """Return what is minimised besides the loss.

        Parameters
        ----------
        network : Network
        target : Target
        function : callable, default=None
            That of an earlier phase of the training.
        span : (float, float), default=(0.0, 1.0)
            Which part of the training this phase is.

        Returns
        -------
        objective : Objective or None
        report : list of dict
            Of the pass of the target samples.
        """
        if not self.method.needs_source:
            return None, []
        activations, views, report = self._load(target)
        seed = self.boundary.seed
        if function is None:  # one for all phases
            n_features = network.features(activations[[0]], 1).shape[1]
            sizes = n_features, self.outputs.n_outputs, self.outputs.is_multilabel
            with seeded(seed):
                function = self.method.make_objective(*sizes, seed)
        weight = self.method.weight
        objective = Objective(function, views, weight=weight, seed=seed, span=span)
        return objective, report

    def adapt(self, network: Network, source, state) -> tuple[Adapted, list]:
        """Let the method adapt a trained network, which stays as it was on an error.

        Parameters
        ----------
        network : Network
        source : Activations or None
        state : dict or None
            What the method left before.

        Returns
        -------
        adapted : Adapted
        report : list of dict
        """
        target, views, report = None, None, []
        if self.samples is not None:
            target, views, report = self._load(self.boundary.target)
        context = self._context(network.eval(), source, target, views, state)
        with put_back_on_error(network):
            found = self.method.after_training(context)
        network.eval()
        return found or Adapted(state), report

    def _load(self, target):
        """Return activations, what is trained on, and the report of their pass."""
        activations, report = self.boundary.load(self.samples, target)
        if getattr(self.boundary.recipe.views, "for_source_only", False):
            return activations, activations, report
        views = self.boundary.views(self.samples, target)
        return activations, activations if views is None else views, report

    def _context(self, network, source=None, target=None, views=None, state=None):
        at = self.boundary
        return AdaptationContext(
            network=network,
            backbone_name=at.backbone.name,
            boundary=at.name,
            source=source,
            target=target,
            target_views=views,
            target_digests=self.digests[1:],
            n_outputs=self.outputs.n_outputs,
            is_multilabel=self.outputs.is_multilabel,
            state=state,
            recipe=at.recipe,
            device=at.runtime.device,
            batch_size=at.runtime.batch_size,
            seed=at.seed,
            stages_above=stages_above(at.backbone, at.name),
            nonlinearity=self.outputs.nonlinearity(),
            adapter=at.adapter,
            callbacks=tuple(self.callbacks),
            verbose=at.runtime.verbose,
        )
