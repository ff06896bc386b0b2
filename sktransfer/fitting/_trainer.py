"""From samples to a trained suffix and head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pandas import DataFrame
from torch import nn

from sktransfer.activations import Target, add_trained
from sktransfer.backbones import describe_training
from sktransfer.compute import step_bar
from sktransfer.fitting._early_stopping import (
    after_trial,
    best_epoch,
    n_epochs_in,
)
from sktransfer.fitting._in_common import check_samples
from sktransfer.fitting._mirrored import why_not_mirrored
from sktransfer.fitting._phases import Trained, run_phases, train_phase
from sktransfer.fitting._split_backbone import (
    SplitBackbone,
    count_trainable,
    later_seed,
)
from sktransfer.fitting._target_domain import Adaptation
from sktransfer.fitting._unused import warn_of_unused
from sktransfer.model import ClassOutputs, RegressionOutputs
from sktransfer.training import (
    AdaptationMethod,
    FitSamples,
    LabelledActivations,
    LabelledSamples,
    Network,
    Probe,
    ResolvedRecipe,
    SuffixNet,
    head_data,
    head_from_linear,
    is_narrow,
    last_layer,
    make_head,
    restore_net,
    restore_weights_on_error,
    warn_of_probabilities,
)


class FitOptions(NamedTuple):
    """Arguments of a fit besides X, y and sample weights."""

    validation: tuple | None = None  # X, y and weights of validation samples
    X_target: Any = None  # samples of a target domain
    method: AdaptationMethod | None = None  # method that adapts to it
    classes: Any = None  # all labels of this and later calls of `partial_fit`
    is_partial: bool = False  # whether this is a call of `partial_fit`


def check_validation(X, y, sample_weight):
    """Return validation samples, targets and weights; None without samples."""
    if X is not None:
        return X, y, sample_weight
    for name, value in {"y_val": y, "sample_weight_val": sample_weight}.items():
        if value is not None:
            raise ValueError(f"`X_val` is needed with `{name}`. Got None.")
    return None


class EarlierTraining(NamedTuple):
    """Results of earlier trainings, for a head that is solved again.

    Attributes
    ----------
    strength : float or None
        Strength of the penalty of the probe; None without a probe.
    online : tuple or None
        Summary of the earlier samples, for a head that is solved in parts.
    n_before : int
        Number of samples of the first training.
    """

    strength: float | None
    online: tuple | None
    n_before: int


@dataclass(frozen=True)
class Trainer:
    """Trainer of the stages and the head above a boundary.

    Its attributes cannot be set; its methods return what they compute.

    Attributes
    ----------
    split : SplitBackbone
    outputs : ClassOutputs or RegressionOutputs
    loss : callable
        Maps scores and targets to the loss of each sample.
    probe : Probe
    is_partial : bool
        Whether this is a call of `partial_fit`: one epoch, which others may follow.
    is_trial : bool
        Whether this training is to choose the number of epochs, and is not kept.
    adaptation : Adaptation or None
    callbacks : sequence
        The user's skorch callbacks.
    checkpoint : path-like or None
        Folder of the states of trainings.
    settings : dict
        Parameters of the estimator, for the names of states.
    """

    split: SplitBackbone
    outputs: ClassOutputs | RegressionOutputs
    loss: Callable
    probe: Probe
    is_partial: bool = False
    is_trial: bool = False
    adaptation: Adaptation | None = None
    callbacks: Sequence = ()
    checkpoint: Any = None
    settings: Mapping = field(default_factory=dict)

    @property
    def recipe(self) -> ResolvedRecipe:
        """Resolved settings of the training."""
        return self.split.recipe

    @property
    def n_epochs(self) -> int:
        """Epochs to train for."""
        return 1 if self.is_partial else self.recipe.max_epochs

    @property
    def is_plain(self) -> bool:
        """Whether nothing is minimised besides the loss."""
        return self.adaptation is None or not self.adaptation.method.needs_source

    @property
    def is_solved(self) -> bool:
        """Whether only a head is trained, and solved without epochs."""
        return self.probe.is_final and self.is_plain and not self.split.has_stages

    def fitted_to(self, data: LabelledSamples) -> Trainer:
        """Return a trainer whose outputs have checked the targets, or learned units."""
        outputs = self.outputs.fitted_to(
            data.y, data.weight, is_partial=self.is_partial
        )
        return replace(self, outputs=outputs)

    def fit(self, suffix: nn.Module, samples: FitSamples) -> Trained:
        """Train the head, or suffix and head in one or more phases, in place."""
        check_samples(self.split.runtime.ranks, samples)
        if self.settings and not self.is_partial:
            warn_of_unused(self)
        if self.adaptation is not None:
            self.adaptation.prepare(suffix)
        if not self.is_solved:
            return self._train(samples, suffix, Trainer._run_phases)
        training, report = self.load(samples.train, self.split.target)
        trained = self._solve(suffix, training, samples.validation)
        return self._adapted(trained._replace(report=report), training)

    def fit_further(
        self, network: Network, samples: FitSamples, earlier: EarlierTraining
    ) -> Trained:
        """Train a network further, in place; it is restored on an error."""
        check_samples(self.split.runtime.ranks, samples)
        with restore_weights_on_error(network):
            if not (self.is_solved and is_narrow(last_layer(network))):
                return self._train(samples, network, Trainer._run_further)
            training, report = self.load(samples.train, self.split.target)
            return self._solve_further(network, training, earlier, report)

    def _train(self, samples, module, run):
        """Train a module, after a trial if there are samples for it (Trained).

        ``run(trainer, module, samples)`` returns the result, the activations and the
        savers of one training.
        """
        trainer, tried, states = self, [], []
        if samples.trial is not None:
            start = copy.deepcopy(module.state_dict())
            trial, _, states = run(replace(self, is_trial=True), module, samples.trial)
            module.load_state_dict(start)
            tried = [{**row, "is_trial": True} for row in trial.rows]
            trainer = after_trial(self, trial.rows)
        trained, training, more = run(trainer, module, samples)
        for saver in [*states, *more]:
            saver.remove()
        return self._adapted(trained._replace(rows=tried + trained.rows), training)

    def _run_phases(self, suffix, samples):
        training, report = self.load(samples.train, self.split.target)
        network = self.split.network(self.split.target, suffix)
        trainer, training = self._check_views(network, training)
        data = samples.train, training, samples.validation
        with self.split.adapter(suffix):
            trained, savers = run_phases(trainer, suffix, *data)
        return trained._replace(report=report + trained.report), training, savers

    def _run_further(self, network, samples):
        target = self.split.target
        training, report = self.load(samples.train, target)
        _, training = self._check_views(network, training)
        objective, more = self.objective(network, target)
        data = training, samples.validation, target, self.n_epochs
        with self.split.adapter(network.suffix):
            net = train_phase(self, network, *data, objective)
        return Trained(network, net, net.history.to_list(), report + more), training, []

    def adapt(self, network: Network, net: SuffixNet, state: dict | None) -> Trained:
        """Adapt a network, which `net` trained, to the target domain alone, in place.

        ``state`` is what the adaptation method returned before.
        """
        return self._adapted(Trained(network, net, [], [], state=state), None)

    def describe(
        self, card: Mapping, estimator: str, n_samples: int, rows: Sequence[Mapping]
    ) -> dict:
        """Return the entries of a model card, with those of this training.

        ``card`` is that of the backbone or, in a later training, of the fitted model.
        ``n_samples`` counts those of this training, and ``rows`` are the epochs of all.
        """
        split, before = self.split, card["trained"] or {}
        depth, classes = split.depth, self.outputs.classes
        entries = {
            "strategy": self._strategy(depth),
            "samples": before.get("samples", n_samples),
            "outputs": self.outputs.n_outputs,
            "freeze_depth": depth,
            "boundary": split.boundary,
            "epochs": n_epochs_in(rows),
        }
        if classes is not None:
            entries["classes"] = [str(label) for label in classes.tolist()]
        if before:
            entries["samples_later"] = before.get("samples_later", 0) + n_samples
        if self.adaptation is not None:
            entries |= self.adaptation.describe()
        return {**card, "trained": describe_training(estimator=estimator, **entries)}

    def summary(self, history: DataFrame) -> dict[str, int | None]:
        """Return the fitted attributes about the epochs of a history.

        `best_epoch_` is None without early stopping.
        """
        rows, best = history.to_dict("records"), None
        last = history.iloc[-1].dropna()
        if self.recipe.early_stopping and "valid_best" in history:
            best = best_epoch(rows)
        n_iter = int(last.get("n_iter", n_epochs_in(rows)))
        return {"n_iter_": n_iter, "best_epoch_": best}

    def _strategy(self, depth):
        """Return a name for what is trained."""
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

    def _check_views(self, network, training):
        """Return a trainer and activations without views "auto" that change classes."""
        is_auto = self.recipe.views == "auto" and training.views is not None
        if not is_auto or self.outputs.kind != "multiclass":
            return self, training
        runtime, classes = self.split.runtime, self.outputs.classes
        seen = training.activations, training.views.views[1], training.y
        why = why_not_mirrored(network, *seen, classes, runtime.batch_size)
        why = runtime.ranks.agree(why)
        if why is None:
            return self, training
        if runtime.verbose:
            print(f"augment='auto' does not mirror, as {why}")
        split = replace(self.split, recipe=replace(self.recipe, views=None))
        return replace(self, split=split), training._replace(views=None)

    def load_held(
        self, validation: LabelledSamples, target: Target
    ) -> LabelledActivations:
        """Load activations to validate on, without random views."""
        activations, _ = self.split.load(validation.samples, target)
        y = self.outputs.to_tensor(validation.y)
        return LabelledActivations(activations, None, y, validation.weight)

    # The head as a convex problem

    def _solve(self, suffix, training, validation):
        """Solve the head, without training stages (Trained)."""
        network = self.split.network(self.split.target, suffix)
        solution, data = self._solve_head(network, training)
        online = self.probe.begin_online(solution, data) if self.is_partial else None
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
        self.split.runtime.ranks.copy_first(network.head)
        loss = self.probe.mean_loss(network, data)
        row = {"epoch": 1, "train_loss": loss, "n_iter": n_iter}
        net = self.net(network, [row])
        return Trained(network, net, [row], report, earlier.strength, online=online)

    def start_head(self, network: Network, training: LabelledActivations):
        """Give the network a head to start from; return the probe's strength or None.

        It is the solution of the probe, a cosine head that starts from the means of the
        classes, one with random weights, or a copy of a module.
        """
        if self.recipe.starts_from_probe:
            return self._solve_head(network, training)[0].strength
        network.head = make_head(
            self.recipe.head,
            network.features(training.activations[[0]], 1).shape[1],
            self.outputs.n_outputs,
            dropout=self.recipe.dropout,
            seed=self.split.seed,
        )
        recipe, kind = self.recipe, self.outputs.kind
        if (recipe.head, recipe.head_init, kind) == ("cosine", "probe", "multiclass"):
            features, y, weight, _ = self._head_data(network, training)
            layer: Any = last_layer(network)
            layer.start_from(features, y, weight)
        network.head.to(self.split.runtime.device)
        warn_of_probabilities(network.head, self.outputs.kind)
        return None

    def _solve_head(self, network, training):
        """Solve the head and put it into the network (Solution, HeadData)."""
        data = self._head_data(network, training)
        with step_bar("Solve the head", self.split.runtime.verbose):
            solution = self.probe.solve(*data, self.is_partial)
        add_trained(self.split.backbone, self.split.head_boundary, len(training.y))
        head = head_from_linear(solution.head, self.recipe.dropout)
        network.head = head.to(self.split.runtime.device)
        self.split.runtime.ranks.copy_first(network.head)
        return solution, data

    def _head_data(self, network, training):
        batch_size = self.split.runtime.batch_size
        seen, y, weight = training.probe_inputs, training.y, training.weight
        return head_data(network, seen, y, weight, batch_size)

    def net(self, network: Network, rows: list) -> SuffixNet:
        """Return a net that is trained already, with the rows of its history."""
        return restore_net(network, rows, self.outputs.nonlinearity())

    # Adaptation

    def objective(self, network: Network, target: Target, function=None, span=(0, 1)):
        """Return what is added to the loss, or None, and the report of its pass.

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
