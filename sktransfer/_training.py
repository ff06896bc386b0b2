"""From samples to a trained suffix and head, and whether these may go on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from sktransfer._adapting import Adaptation
from sktransfer._phases import Trained, run_phases, train_phase
from sktransfer._split import (
    LabelledActivations,
    LabelledSamples,
    SplitBackbone,
    count_trainable,
    later_seed,
)
from sktransfer.activations import Target
from sktransfer.backbones import Backbone, describe_training
from sktransfer.model import ClassOutputs, RegressionOutputs
from sktransfer.training import (
    Network,
    Probe,
    ResolvedRecipe,
    SuffixNet,
    head_data,
    head_from_linear,
    hold_out,
    is_narrow,
    last_layer,
    make_head,
    put_back_on_error,
    restore_net,
)
from sktransfer.utils import content_stamp, describe, join_key, library_versions


def describe_network(parameters: Mapping[str, Any]) -> dict[str, dict]:
    """Describe the parameters that a network is built by, to notice changes later.

    ``weights`` that name a file are compared by the content of the file, modules and
    callables by theirs, as far as the versions of libraries are the same.
    """
    libraries = {"libraries": [sys.version, library_versions()]}
    return {name: _describe(value) | libraries for name, value in parameters.items()}


def _describe(value):
    value = value.item() if isinstance(value, np.generic) else value
    value = tuple(value) if isinstance(value, list) else value
    kind, content = _content(value)
    return {
        "shown": _show(value),
        "kind": kind,
        "content": content,
    }


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
    """Raise an error if a training would go on with another network than before.

    ``before`` and ``now`` are from :func:`describe_network`. ``where`` and ``restart``
    are for the message: what goes on, and how to start again.
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
    # A file may be gone once it was read, and the code of libraries may be another.
    is_gone = old["kind"] == "file" and new["kind"] == "absent"
    is_other = new["kind"] == "object" and old["libraries"] != new["libraries"]
    return (is_gone or is_other) and old["shown"] == new["shown"]


class EarlierTraining(NamedTuple):
    """What a head that is solved again takes over from the trainings before.

    Attributes
    ----------
    strength : float or None
        Of the penalty of the probe, if there was one.
    online : tuple or None
        Summary of the samples before, of a head that is solved part by part.
    n_before : int
        Number of samples of the first training.
    """

    strength: float | None
    online: tuple | None
    n_before: int


@dataclass(frozen=True)
class Trainer:
    """Trains what lies above a boundary. It is immutable, and returns what it made.

    Attributes
    ----------
    split : SplitBackbone
    outputs : ClassOutputs or RegressionOutputs
    loss : callable
        From scores and targets to the loss of each sample.
    probe : Probe
    more_to_come : bool
        Whether this is a call of `partial_fit`: one epoch, which others may follow.
    adaptation : Adaptation or None
    callbacks : sequence
        The user's skorch callbacks.
    checkpoint : path-like or None
        Folder of the states of trainings.
    settings : dict
        What else the name of a state depends on.
    """

    split: SplitBackbone
    outputs: ClassOutputs | RegressionOutputs
    loss: Callable
    probe: Probe
    more_to_come: bool = False
    adaptation: Adaptation | None = None
    callbacks: Sequence = ()
    checkpoint: Any = None
    settings: Mapping = field(default_factory=dict)

    @property
    def recipe(self) -> ResolvedRecipe:
        """Settings of the training."""
        return self.split.recipe

    @property
    def n_epochs(self) -> int:
        """Epochs to train for."""
        return 1 if self.more_to_come else self.recipe.max_epochs

    @property
    def is_plain(self) -> bool:
        """Whether nothing is minimised besides the loss."""
        return self.adaptation is None or not self.adaptation.method.needs_source

    @property
    def is_solved(self) -> bool:
        """Whether only a head is left that is solved, without epochs."""
        return self.probe.is_final and self.is_plain and not self.split.has_stages

    def fitted_to(self, data: LabelledSamples) -> Trainer:
        """Return a trainer whose outputs have learned the units of the targets."""
        outputs = self.outputs.fitted_to(
            data.y, data.weight, more_to_come=self.more_to_come
        )
        return replace(self, outputs=outputs)

    def hold_out(
        self, data: LabelledSamples, seed: int
    ) -> tuple[LabelledSamples, LabelledSamples | None]:
        """Hold out samples for early stopping, which a solved head does not need."""
        if not self.recipe.early_stopping or self.is_solved:
            return data, None
        strata = self.outputs.strata(data.y)
        return data.hold_out(hold_out(strata, self.recipe.validation_fraction, seed))

    def fit(
        self,
        suffix: nn.Module,
        data: LabelledSamples,
        validation: LabelledSamples | None = None,
    ) -> Trained:
        """Train the head, or suffix and head in one or more phases, in place."""
        if self.adaptation is not None:
            self.adaptation.prepare(suffix)
        training, report = self.load(data, self.split.target)
        if self.is_solved:
            trained = self._solve(suffix, training, validation)
        else:
            with self.split.adapter(suffix):
                trained = run_phases(self, suffix, data, training, validation)
        trained = trained._replace(report=[*report, *trained.report])
        return self._adapted(trained, training.activations)

    def go_on(
        self,
        network: Network,
        data: LabelledSamples,
        validation: LabelledSamples | None,
        earlier: EarlierTraining,
    ) -> Trained:
        """Train a network further, in place; it is left as it was if that fails."""
        target = self.split.target
        training, report = self.load(data, target)
        with put_back_on_error(network):
            if self.is_solved and is_narrow(last_layer(network)):
                return self._solve_further(network, training, earlier, report)
            objective, more = self.objective(network, target)
            with self.split.adapter(network.suffix):
                net = train_phase(
                    self,
                    network,
                    training,
                    validation,
                    target,
                    self.n_epochs,
                    objective,
                )
            trained = Trained(network, net, net.history.to_list(), report + more)
            return self._adapted(trained, training.activations)

    def adapt(self, network: Network, net: SuffixNet, state: dict | None) -> Trained:
        """Adapt a network, which `net` trained, to the target domain alone, in place.

        ``state`` is what the adaptation method left before.
        """
        return self._adapted(Trained(network, net, [], [], state=state), None)

    def describe(
        self, card: Mapping, estimator: str, n_samples: int, n_epochs: int
    ) -> dict:
        """Return the entries of a model card, with those of this training.

        The card is that of the backbone or, if its training went on, of the fitted
        model. ``n_samples`` are those of this training, ``n_epochs`` of all trainings.
        """
        split, before = self.split, card["trained"] or {}
        depth, classes = split.depth, self.outputs.classes
        entries = {
            "strategy": self._strategy(depth),
            "samples": before.get("samples", n_samples),
            "outputs": self.outputs.n_outputs,
            "freeze_depth": depth,
            "boundary": split.boundary,
            "epochs": n_epochs,
        }
        if classes is not None:
            entries["classes"] = [str(label) for label in classes.tolist()]
        if before:
            entries["samples_later"] = before.get("samples_later", 0) + n_samples
        if self.adaptation is not None:
            entries |= self.adaptation.describe()
        return {**card, "trained": describe_training(estimator=estimator, **entries)}

    def _strategy(self, depth):
        """Name what is trained."""
        recipe = self.recipe
        if not self.split.has_stages:
            return "linear probe" if self.is_solved else "head"
        if recipe.adapter is not None:
            return "adapters (lora)"
        kind = "partial" if depth else "full"
        gradual = ", gradual unfreezing" if recipe.unfreeze_every else ""
        return f"{kind} fine-tuning{gradual}"

    def load(
        self, data: LabelledSamples, target: Target
    ) -> tuple[LabelledActivations, list]:
        """Load activations to train on, and report where they came from."""
        return self.split.load_labelled(data, self.outputs.to_tensor(data.y), target)

    def load_held(
        self, validation: LabelledSamples, target: Target
    ) -> LabelledActivations:
        """Load activations to validate on, without random views."""
        activations, _ = self.split.load(validation.samples, target)
        y = self.outputs.to_tensor(validation.y)
        return LabelledActivations(activations, None, y, validation.weight)

    # The head as a convex problem

    def _solve(self, suffix, training, validation):
        """Solve the head, which is all that is trained (Trained)."""
        network = self.split.network(self.split.target, suffix)
        solution, data = self._solve_head(network, training)
        online = self.probe.begin_online(solution, data) if self.more_to_come else None
        row = {"epoch": 1, **solution.row}
        if validation is not None:
            held = self.load_held(validation, self.split.target)
            row["valid_loss"] = self.probe.mean_loss(
                network, self._head_data(network, held)
            )
        net = self.net(network, [row])
        trained = Trained(network, net, [row], [], solution.strength, 0.0, online)
        return trained._replace(n_trainable=count_trainable(network))

    def _solve_further(self, network, training, earlier, report):
        """Solve the head on more samples (Trained)."""
        data = self._head_data(network, training)
        online, n_iter = self.probe.solve_on(
            last_layer(network), data, **earlier._asdict()
        )
        loss = self.probe.mean_loss(network, data)
        row = {"epoch": 1, "train_loss": loss, "n_iter": n_iter}
        net = self.net(network, [row])
        return Trained(network, net, [row], report, earlier.strength, online=online)

    def start_head(self, network: Network, training: LabelledActivations):
        """Give the network a head to start from; return the probe's strength or None.

        It is the solution of the probe, one with random weights, or a copy of a module.
        """
        if self.recipe.starts_from_probe:
            return self._solve_head(network, training)[0].strength
        network.head = make_head(
            self.recipe.head,
            network.features(training.activations[[0]], 1).shape[1],
            self.outputs.n_outputs,
            dropout=self.recipe.dropout,
            seed=self.split.seed,
        ).to(self.split.runtime.device)
        return None

    def _solve_head(self, network, training):
        """Solve the head and put it into the network (Solution, HeadData)."""
        data = self._head_data(network, training)
        solution = self.probe.solve(*data, self.more_to_come)
        head = head_from_linear(solution.head, self.recipe.dropout)
        network.head = head.to(self.split.runtime.device)
        return solution, data

    def _head_data(self, network, training):
        batch_size = self.split.runtime.batch_size
        seen, y, weight = training.seen_by_probe, training.y, training.weight
        return head_data(network, seen, y, weight, batch_size)

    def net(self, network: Network, rows: list) -> SuffixNet:
        """Return a net that is trained already, with the rows of its history."""
        return restore_net(network, rows, self.outputs.nonlinearity())

    # Adaptation

    def objective(self, network: Network, target: Target, function=None, span=(0, 1)):
        """Return what is minimised besides the loss, or None, and a report.

        See :meth:`Adaptation.objective`.
        """
        if self.adaptation is None:
            return None, []
        return self.adaptation.objective(network, target, function, span)

    def _adapted(self, trained, source):
        """Return what the adaptation method made of a training (Trained)."""
        if self.adaptation is None or not self.adaptation.has_hook:
            return trained
        seed = later_seed(self.split.seed, len(trained.rows))
        adaptation = replace(self.adaptation, split=replace(self.split, seed=seed))
        adapted, report = adaptation.adapt(trained.network, source, trained.state)
        trained = trained._replace(state=adapted.state, report=trained.report + report)
        if adapted.net is None:
            return trained
        rows = trained.rows + adapted.net.history.to_list()
        return trained._replace(net=adapted.net, rows=rows)
