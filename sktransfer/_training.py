"""From activations at a boundary to a trained suffix and head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from sktransfer._adapting import Adaptation
from sktransfer._boundary import Boundary, later_seed, suffix_above
from sktransfer._checkpoint import make_savers
from sktransfer._diagnosis import (
    check_drift,
    check_overfitting,
    check_start,
    drift,
    has_risen,
    look,
)
from sktransfer._values import Before, Labelled, Trained
from sktransfer.activations import Target
from sktransfer.model import ClassOutputs, RegressionOutputs
from sktransfer.training import (
    Mix,
    Network,
    Probe,
    Recipe,
    SuffixNet,
    head_data,
    head_from_linear,
    is_divisible,
    is_narrow,
    last_layer,
    make_head,
    put_back_on_error,
    restore_net,
    stages_above,
    train,
    unfreezing_phases,
)

__all__ = ["Trainer"]


@dataclass(frozen=True)
class Trainer:
    """Trains what lies above a boundary. It is immutable, and returns what it made.

    Attributes
    ----------
    boundary : Boundary
    outputs : ClassOutputs or RegressionOutputs
    loss : callable
        From scores and targets to the loss of each sample.
    probe : Probe
    adaptation : Adaptation or None
    callbacks : sequence
        The user's skorch callbacks.
    checkpoint : path-like or None
        Folder of the states of trainings.
    settings : dict
        What else the name of a state depends on.
    """

    boundary: Boundary
    outputs: ClassOutputs | RegressionOutputs
    loss: Callable
    probe: Probe
    adaptation: Adaptation | None = None
    callbacks: Sequence = ()
    checkpoint: Any = None
    settings: Mapping = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """Settings of the training."""
        return self.boundary.recipe

    @property
    def is_plain(self) -> bool:
        """Whether nothing is minimised besides the loss."""
        return self.adaptation is None or not self.adaptation.method.needs_source

    @property
    def is_solved(self) -> bool:
        """Whether only a head is left that is solved, without epochs."""
        return self.probe.is_final and self.is_plain and not self.boundary.has_stages

    def fitted_to(self, data: Labelled, *, more_to_come: bool) -> Trainer:
        """Return a trainer whose outputs have learned the units of the targets."""
        outputs = self.outputs.fitted_to(data.y, data.weight, more_to_come=more_to_come)
        return replace(self, outputs=outputs)

    def fit(
        self,
        suffix: nn.Module,
        data: Labelled,
        validation: Labelled | None = None,
        *,
        is_part: bool = False,
    ) -> Trained:
        """Train the head, or suffix and head in one or more phases.

        Parameters
        ----------
        suffix : torch.nn.Module
            Trained in place.
        data : Labelled
        validation : Labelled, default=None
        is_part : bool, default=False
            Whether more samples follow, as with `partial_fit`.
        """
        if self.adaptation is not None:
            self.adaptation.prepare(suffix)
        training, report = self._bring(data, self.boundary.target)
        if self.is_solved:
            trained = self._solve(suffix, training, validation, is_part)
        else:
            with self.boundary.adapter(suffix):
                trained = self._run_phases(suffix, data, training, validation, is_part)
        trained = trained._replace(report=[*report, *trained.report])
        return self._adapted(trained, training.activations)

    def go_on(
        self,
        network: Network,
        data: Labelled,
        validation: Labelled | None,
        before: Before,
        *,
        is_part: bool = False,
    ) -> Trained:
        """Train a network on, which is left as it was if that fails.

        Parameters
        ----------
        network : Network
            Trained in place.
        data : Labelled
        validation : Labelled or None
        before : Before
        is_part : bool, default=False
            Whether this is one epoch of `partial_fit`.
        """
        target = self.boundary.target
        training, report = self._bring(data, target)
        n_epochs = 1 if is_part else self.recipe.max_epochs
        with put_back_on_error(network):
            if self.is_solved and is_narrow(last_layer(network)):
                return self._solve_on(network, training, before, report)
            objective, more = self._objective(network, target)
            with self.boundary.adapter(network.suffix):
                net = self._train_phase(
                    network, training, validation, target, n_epochs, objective
                )
            trained = Trained(network, net, net.history.to_list(), report + more)
            return self._adapted(trained, training.activations)

    def adapt(self, network: Network, net: SuffixNet, state: dict | None) -> Trained:
        """Adapt a trained network to the target domain alone.

        Parameters
        ----------
        network : Network
            Changed in place, and left as it was if that fails.
        net : SuffixNet
            What trained it.
        state : dict or None
            What the method left before.
        """
        return self._adapted(Trained(network, net, [], [], state=state), None)

    def _bring(self, data, target):
        """Bring samples to a target (AtBoundary, and the report of the pass)."""
        return self.boundary.bring(data, self.outputs.to_tensor(data.y), target)

    def _hold(self, validation, target):
        """Bring validation samples to a target, as they are (AtBoundary)."""
        y = self.outputs.to_tensor(validation.y)
        return self.boundary.bring(validation, y, target, as_they_are=True)[0]

    # The head as a convex problem

    def _solve(self, suffix, training, validation, is_part):
        """Solve the head, which is all that is trained (Trained)."""
        network = self.boundary.network(self.boundary.target, suffix)
        solution, data = self._start_head(network, training, is_part)
        online = self.probe.begin_online(solution, data) if is_part else None
        row = {"epoch": 1, **solution.row}
        if validation is not None:
            held = self._hold(validation, self.boundary.target)
            row["valid_loss"] = self.probe.mean_loss(
                network, self._head_data(network, held)
            )
        net = self._net(network, [row])
        trained = Trained(network, net, [row], [], solution.strength, 0.0, online)
        return trained._replace(n_trainable=_count_trainable(network))

    def _solve_on(self, network, training, before, report):
        """Solve the head on more samples (Trained)."""
        data = self._head_data(network, training)
        online, n_iter = self.probe.solve_on(
            last_layer(network), data, **before._asdict()
        )
        loss = self.probe.mean_loss(network, data)
        row = {"epoch": 1, "train_loss": loss, "n_iter": n_iter}
        net = self._net(network, [row])
        return Trained(network, net, [row], report, before.strength, online=online)

    def _start_head(self, network, training, is_part):
        """Solve the head and put it into the network (Solution, HeadData)."""
        data = self._head_data(network, training)
        solution = self.probe.solve(*data, is_part)
        head = head_from_linear(solution.head, self.recipe.dropout)
        network.head = head.to(self.boundary.runtime.device)
        return solution, data

    def _make_head(self, network, training):
        """Make a head with random weights, or copy the user's."""
        activations = training.activations
        network.head = make_head(
            self.recipe.head,
            network.features(activations[[0]], 1).shape[1],
            self.outputs.n_outputs,
            dropout=self.recipe.dropout,
            seed=self.boundary.seed,
        ).to(self.boundary.runtime.device)

    def _head_data(self, network, training):
        batch_size = self.boundary.runtime.batch_size
        seen, y, weight = training.seen_by_probe, training.y, training.weight
        return head_data(network, seen, y, weight, batch_size)

    def _net(self, network, rows):
        return restore_net(network, rows, self.outputs.nonlinearity())

    # Epochs

    def _run_phases(self, suffix, data, training, validation, is_part):
        """Train from phase to phase (Trained)."""
        phases = self._phases(1 if is_part else self.recipe.max_epochs)
        savers = self._savers(data, validation, len(phases))
        head = strength = before = function = None
        rows, report = [], []
        for (name, n, span), saver in zip(phases, savers, strict=True):
            target, part, seen = self._at(name, suffix, data, training)
            network = self.boundary.network(target, part, head)
            if head is None:
                strength = self._begin(network, seen, is_part)
                head, before = network.head, self._look(network, seen)
            objective, more = self._objective(network, target, function, span)
            function = objective and objective.function
            net = self._train_phase(
                network, seen, validation, target, n, objective, saver
            )
            rows, report = rows + net.history.to_list(), report + more
        moved = self._diagnose(before, network, seen, validation, target, rows)
        if name != self.boundary.name:  # the epochs ended before
            network = self.boundary.network(self.boundary.target, suffix, head)
            net = self._net(network, rows)
        for saver in filter(None, savers):
            saver.remove()
        trained = Trained(network, net, rows, report, strength, moved)
        return trained._replace(n_trainable=_count_trainable(network))

    def _phases(self, n_epochs):
        """Plan boundaries, epochs and shares of the training, from the top down."""
        phases = unfreezing_phases(
            self.boundary.backbone,
            self.boundary.name,
            every=self.recipe.unfreeze_every,
            max_epochs=n_epochs,
            head_first=not self.recipe.starts_from_probe,
        )
        ends = np.cumsum([0, *(n for _, n in phases)]) / n_epochs
        spans = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        return [(*phase, span) for phase, span in zip(phases, spans, strict=True)]

    def _at(self, name, suffix, data, training):
        """Return the target, the stages and the activations of a phase."""
        if name == self.boundary.name:
            return self.boundary.target, suffix, training
        target = Target(name)
        part = suffix_above(self.boundary.backbone, name, self.recipe)
        return target, part, self._bring(data, target)[0]

    def _begin(self, network, training, is_part):
        """Give the network a head to start from; returns the probe's strength."""
        if not self.recipe.starts_from_probe:
            self._make_head(network, training)
            return None
        solution, _ = self._start_head(network, training, is_part)
        return solution.strength

    def _train_phase(
        self, network, training, validation, target, n_epochs, objective, saver=None
    ):
        """Train a network on activations at a target (SuffixNet)."""
        at, recipe = self.boundary, replace(self.recipe, max_epochs=n_epochs)
        if saver is not None:
            saver.views = training.views
        mix = None
        if recipe.mixes:
            mix = Mix(at.layout(target), mixup=recipe.mixup, cutmix=recipe.cutmix)
        return train(
            network,
            training.data,
            loss=self.loss,
            recipe=recipe,
            device=at.runtime.device,
            seed=at.seed,
            validation=validation and self._hold(validation, target).data,
            stages_above=stages_above(at.backbone, target.boundary),
            mix=mix,
            objective=objective,
            nonlinearity=self.outputs.nonlinearity(),
            callbacks=self.callbacks,
            saver=saver,
            divides=objective is None and self._divides(network, target),
            verbose=at.runtime.verbose,
        )

    def _divides(self, network, target):
        """Whether threads compute parts of a batch of this training."""
        at = self.boundary
        if at.runtime.device.type != "cpu":
            return False
        passed = at.backbone.multiply_adds(target.boundary, at.end)
        work = passed * self.recipe.batch_size
        return is_divisible(network.train(), at.example(target), work)

    def _savers(self, data, validation, n_phases):
        """Return what keeps the state of each phase, None without a checkpoint."""
        return make_savers(
            self.checkpoint,
            self.settings,
            self.boundary,
            data,
            validation,
            self.adaptation,
            n_phases,
        )

    # Diagnosis

    def _look(self, network, data, **most):
        return look(
            network,
            data.activations,
            data.y,
            loss=self.loss,
            quality=self.outputs.quality,
            batch_size=self.boundary.runtime.batch_size,
            **most,
        )

    def _diagnose(self, before, network, training, validation, target, history):
        """Warn of signs of a bad fit; returns the drift of the features (float)."""
        after, say = self._look(network, training), self.outputs.describe_quality
        moved = drift(before.features, after.features)
        if self.recipe.starts_from_probe:
            check_drift(before, after, moved, self.recipe.lr, say)
            if self.is_plain:
                check_start(before, after, moved, len(history), self.recipe, say)
        is_watched = validation is not None and not self.recipe.early_stopping
        if is_watched and has_risen(history, len(validation.y)):
            both = training, self._hold(validation, target)
            looks = [self._look(network, data, most=256) for data in both]
            check_overfitting(*looks, len(validation.y), history, say)
        return moved

    # Adaptation

    def _objective(self, network, target, function=None, span=(0.0, 1.0)):
        """Return what is minimised besides the loss, or None, and a report."""
        if self.adaptation is None:
            return None, []
        return self.adaptation.objective(network, target, function, span)

    def _adapted(self, trained, source):
        """Return what the adaptation method made of a training (Trained)."""
        if self.adaptation is None or not self.adaptation.has_hook:
            return trained
        seed = later_seed(self.boundary.seed, len(trained.rows))
        boundary = replace(self.boundary, seed=seed)
        adaptation = replace(self.adaptation, boundary=boundary)
        adapted, report = adaptation.adapt(trained.network, source, trained.state)
        trained = trained._replace(state=adapted.state, report=trained.report + report)
        if adapted.net is None:
            return trained
        rows = trained.rows + adapted.net.history.to_list()
        return trained._replace(net=adapted.net, rows=rows)


def _count_trainable(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
