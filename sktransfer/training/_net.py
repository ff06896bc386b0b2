"""The skorch net that trains a suffix and a head."""

import contextlib
import math
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochTimer,
    PassthroughScoring,
    PrintLog,
)
from skorch.helper import predefined_split
from skorch.utils import to_device
from torch import nn

from sktransfer.compute import (
    Draws,
    Shards,
    fixed_threads,
    halving,
    keep_freed_memory,
)
from sktransfer.training._average import WeightAverage
from sktransfer.training._batches import (
    ActivationBatches,
    ActivationDataset,
    batches_in_order,
)
from sktransfer.training._best import BestWeights
from sktransfer.training._divide import PART_SIZE
from sktransfer.training._gradients import add_gradients
from sktransfer.training._loss import WeightedLoss
from sktransfer.training._optimiser import parameter_groups
from sktransfer.training._penalty import StartingPoint
from sktransfer.training._schedule import schedule_callback

__all__ = ["Data", "SuffixNet", "restore_net", "train"]

# Times the loss of scores that are all zero: beyond, a training has not converged.
_HOPELESS = 10


@dataclass(frozen=True)
class Data:
    """Samples to train or to validate on.

    Attributes
    ----------
    activations : Activations or torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples, ...)
    sample_weight : ndarray of shape (n_samples,)
    """

    activations: object
    y: torch.Tensor
    sample_weight: object

    def dataset(self):
        """Return a dataset whose weights have a mean of one (ActivationDataset)."""
        weight = torch.as_tensor(self.sample_weight, dtype=torch.float32)
        return ActivationDataset(self.activations, self.y, weight / weight.mean())


class SuffixNet(NeuralNet):
    """skorch's net over activations.

    Parameters
    ----------
    module : Network
    groups : callable
        From named parameters to the groups of the optimiser.
    mix : Mix, default=None
        What batches go through in training.
    l2_sp : float, default=0.0
        Strength of the penalty towards the weights at the start.
    max_grad_norm : float, default=None
        Gradients are clipped to this norm.
    accumulate_grad_batches : int, default=1
        Batches that make a step of the optimiser.
    draws : Draws, default=None
        Where dropout and mixing draw from; None for torch's generators as they are.
    shards : Shards, default=None
        What computes parts of a batch; None computes a batch as a whole.
    **kwargs
        skorch's.
    """

    def __init__(
        self,
        module,
        *,
        groups=None,
        mix=None,
        l2_sp=0.0,
        max_grad_norm=None,
        accumulate_grad_batches=1,
        draws=None,
        shards=None,
        **kwargs,
    ):
        super().__init__(module, **kwargs)
        self.groups = groups
        self.mix = mix
        self.l2_sp = l2_sp
        self.max_grad_norm = max_grad_norm
        self.accumulate_grad_batches = accumulate_grad_batches
        self.draws = draws
        self.shards = shards

    @property
    def _default_callbacks(self):
        callbacks = [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("print_log", PrintLog()),
        ]
        if self.train_split is not None:
            callbacks.insert(2, ("valid_loss", PassthroughScoring(name="valid_loss")))
        if self.criterion.objective is not None:
            added = PassthroughScoring(name="objective", on_train=True)
            callbacks.insert(2, ("objective", added))
        return callbacks

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Group the parameters by learning rate and weight decay."""
        named_parameters = list(named_parameters)
        _, kwargs = super().get_params_for_optimizer(prefix, [])
        kwargs.pop("lr", None)
        return (self.groups(named_parameters),), kwargs

    def prepare(self):
        """Remember the weights at the start, towards which `l2_sp` pulls."""
        self.optimizer_.zero_grad()  # an interrupted training may have left some
        self._n_batches = 0
        self._at_a_time = math.inf
        self._start = None
        if self.l2_sp:
            trained = [p for p in self.module_.named_parameters() if _is_pulled(*p)]
            self._start = StartingPoint(trained)

    def train_step_single(self, batch, **fit_params):
        """Compute loss and gradients of a batch.

        Where the memory of the device is too small for it, it goes in parts whose
        gradients add up to its own, and so do those after it.
        """
        self._set_training(True)
        z, target = to_device(batch, self.device)
        size = min(self._at_a_time, len(z))
        if self.shards is not None:
            size = min(size, PART_SIZE)
        others = self._draw_others(len(z))
        with self._drawing():
            z = self.module_.augment(z)
            mixed = (z,) if self.mix is None else self.mix(z)
            objective = self._objective(others)
            with _single_sample_refused():
                (loss, scores), fitting = halving(
                    lambda n: self._add_gradients(
                        mixed, target, objective, n, again=n < size
                    ),
                    size,
                    torch.device(self.device),
                    "Freeze more stages with `freeze`. ",
                )
        if fitting < size:
            self._at_a_time = fitting
        return {"loss": loss, "y_pred": scores}

    def _draw_others(self, n):
        """Draw what goes with a batch of n; random views come from other threads."""
        objective = self.criterion_.objective
        others = None if objective is None else objective.draw(n, self._n_batches)
        return None if others is None else to_device(others, self.device)

    def _objective(self, others):
        """Return what is minimised beside a batch, None if there is nothing."""
        objective = self.criterion_.objective
        if objective is None:
            return None
        if others is not None:
            others = self.module_.augment(others)
        progress = self._n_batches / (self.n_batches * self.max_epochs)

        def compute(z, rows):
            part = None if others is None else others[rows]
            scores, added = objective(self.module_, z, part, progress)
            self.history.record_batch("objective", float(added.detach()))
            return scores, added

        return compute

    def _add_gradients(self, mixed, target, objective, size, *, again):
        if again:
            self._drop_gradients()
        z, *mixing = mixed
        return add_gradients(
            self.module_.scores,
            self.criterion_,
            z,
            target,
            size=size,
            parameters=self._trained(),
            shards=self.shards,
            mixing=mixing,
            penalty=None if self._start is None else self._penalty,
            objective=objective,
            n_batches=self._n_accumulated(),
        )

    def _trained(self):
        named = self.get_all_learnable_params()
        return [parameter for _, parameter in named if parameter.requires_grad]

    def _penalty(self):
        return self.l2_sp * self._start.penalty(self.module_)

    def _drop_gradients(self):
        """Drop those of a batch that was too large, which may be some or all."""
        if self._n_batches % self.n_batches % self.accumulate_grad_batches:
            raise MemoryError(
                f"The memory of {self.device} ran out within a step, after batches "
                "whose gradients were added up already. Take a smaller `batch_size` "
                "and accordingly more `accumulate_grad_batches` (it is "
                f"{self.accumulate_grad_batches})."
            )
        self.optimizer_.zero_grad()

    def _drawing(self):
        return contextlib.nullcontext() if self.draws is None else self.draws.put_in()

    def _n_accumulated(self):
        """Count the batches of this step, which are fewer at the end of an epoch."""
        done = self._n_batches % self.n_batches  # of this epoch
        left = self.n_batches - done + done % self.accumulate_grad_batches
        return min(self.accumulate_grad_batches, left)

    @fixed_threads()
    def train_step(self, batch, **fit_params):
        """Make a step of the optimiser at the end of so many batches."""
        step = self.train_step_single(batch, **fit_params)
        named = list(self.get_all_learnable_params())
        self.notify(
            "on_grad_computed", named_parameters=named, batch=batch, training=True
        )
        self._n_batches += 1
        done = self._n_batches % self.n_batches  # of this epoch
        self.has_stepped = done % self.accumulate_grad_batches == 0
        if self.has_stepped:
            self._step([parameter for _, parameter in named])
        return step

    def _step(self, parameters):
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        self.optimizer_.step()
        self.optimizer_.zero_grad()

    def predict(self, X):
        """Predict as scores of scikit-learn take it: labels, where there are some."""
        predicted = super().predict(X)
        decide = getattr(self.predict_nonlinearity, "decide", None)
        return predicted if decide is None else decide(predicted)

    def notify(self, method_name, **cb_kwargs):
        """Call the callbacks; batches have targets alone, as skorch's scores take."""
        if method_name == "on_batch_end":
            z, (y, weight) = cb_kwargs["batch"]
            cb_kwargs.update(batch=(z, y), sample_weight=weight)
        super().notify(method_name, **cb_kwargs)

    def _average(self):
        return dict(self.callbacks_).get("average")

    def averaged(self):
        """Put the averaged weights into the module, while this goes on.

        Returns
        -------
        context manager
        """
        average = self._average()
        return average.averaged(self.module_) if average else contextlib.nullcontext()

    def validation_step(self, batch, **fit_params):
        """Compute the loss of a batch, with the averaged weights where there are."""
        with self.averaged(), self._drawing(), fixed_threads():
            return super().validation_step(batch, **fit_params)


@contextlib.contextmanager
def _single_sample_refused():
    """Say what to do where BatchNorm cannot tell the variance of a single sample."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "A batch must have two samples or more where BatchNorm takes its "
            "statistics from it, as with `batch_norm='train'` or in a `head`. Got one "
            "sample: give more samples and a `batch_size` of 2 or more, or set "
            "`batch_norm='eval'`."
        ) from error


def _is_pulled(name, parameter):
    return parameter.requires_grad and not name.startswith("head.")


class Watch(Callback):
    """Ends a training that diverges with an error, or says that it did not learn."""

    def on_train_begin(self, net, **kwargs):
        """Forget what was seen before."""
        self.chance_, self._seen = None, []

    def on_batch_end(self, net, batch, training, y_pred, sample_weight, **kwargs):
        """Compute the loss of scores that are all zero, in the first epoch."""
        if training and self.chance_ is None:
            target = to_device((batch[1], sample_weight), y_pred.device)
            loss = net.criterion_(torch.zeros_like(y_pred), target)
            self._seen.append((float(loss), len(y_pred)))

    def on_epoch_end(self, net, **kwargs):
        """Look at the loss."""
        if self.chance_ is None:
            losses, sizes = zip(*self._seen, strict=True)
            self.chance_ = float(np.average(losses, weights=sizes))
        row = net.history[-1]
        if not math.isfinite(row["train_loss"]):
            raise ValueError(
                f"The training diverged: the loss of epoch {row['epoch']} is "
                f"{row['train_loss']}. Take a lower `lr` (it is {net.lr:g}) or "
                "a lower `backbone_lr_ratio`."
            )

    def on_train_end(self, net, **kwargs):
        """Compare the last loss with that of scores that are all zero."""
        if self.chance_ is None or len(net.history) == 1:  # too early to say
            return
        last = net.history[-1]["train_loss"]
        if last > _HOPELESS * self.chance_ > 0:
            warnings.warn(
                f"The training did not converge: its last loss, {last:.3g}, is above "
                f"that of knowing nothing, {self.chance_:.3g}. Take a lower `lr` (it "
                f"is {net.lr:g}) or more epochs.",
                stacklevel=2,
            )


def train(
    network,
    data,
    *,
    loss,
    recipe,
    device,
    seed,
    validation=None,
    stages_above=None,
    mix=None,
    objective=None,
    nonlinearity=None,
    callbacks=None,
    saver=None,
    divides=False,
    verbose=0,
):
    """Train a suffix and a head on activations, with AdamW.

    Parameters
    ----------
    network : Network
        Trained in place.
    data : Data
    loss : callable
        From scores and targets to the losses of single samples.
    recipe : Recipe
    device : torch.device
    seed : int
        Of the order of the samples, of mixing and of dropout. Each step draws by it in
        its turn (:class:`Draws`); all else leaves torch's generators to the user.
    validation : Data, default=None
        What early stopping looks at.
    stages_above : dict of str to int, default=None
        See :func:`parameter_groups`.
    mix : Mix, default=None
    objective : Objective, default=None
        What is minimised besides the loss; it stands in the history beside it.
    nonlinearity : callable, default=None
        From scores to what the net predicts.
    callbacks : list of skorch callbacks or (name, callback), default=None
        Further ones.
    saver : Saver, default=None
        Keeps the state of the training in a file.
    divides : bool, default=False
        Whether parts of a batch are computed by several threads, see
        :func:`is_divisible`.
    verbose : int, default=0
        Whether to print a line an epoch.

    Returns
    -------
    SuffixNet

    Raises
    ------
    ValueError
        If the loss becomes infinite or NaN.
    """
    dataset = data.dataset()
    generator = torch.Generator().manual_seed(seed)
    n_batches = len(ActivationBatches(dataset, recipe.batch_size))
    n_steps = recipe.max_epochs * -(-n_batches // recipe.accumulate_grad_batches)
    ours = [("watch", Watch())]
    if validation is not None and recipe.early_stopping:
        ours.append(("best", BestWeights(recipe.n_iter_no_change)))
    if recipe.ema is not None:
        ours.append(("average", WeightAverage(recipe.ema)))
    ours.append(("schedule", schedule_callback(recipe.lr_schedule, n_steps)))
    net = SuffixNet(
        network,
        groups=partial(
            parameter_groups,
            lr=recipe.lr,
            backbone_lr_ratio=recipe.backbone_lr_ratio,
            layer_decay=recipe.layer_decay,
            stages_above=stages_above,
            weight_decay=recipe.weight_decay,
        ),
        mix=mix,
        l2_sp=recipe.l2_sp,
        max_grad_norm=recipe.max_grad_norm,
        accumulate_grad_batches=recipe.accumulate_grad_batches,
        draws=Draws(seed, device),
        criterion=WeightedLoss(loss, objective),
        predict_nonlinearity=nonlinearity,
        optimizer=torch.optim.AdamW,
        optimizer__fused=True,
        lr=recipe.lr,
        max_epochs=recipe.max_epochs,
        batch_size=recipe.batch_size,
        iterator_train=partial(ActivationBatches, generator=generator),
        iterator_valid=batches_in_order,
        train_split=validation and predefined_split(validation.dataset()),
        device=device,
        verbose=verbose,
        callbacks=[*ours, *clone(list(callbacks or []), safe=False)],
    )
    net.n_batches = n_batches
    with keep_freed_memory(), _parts(recipe.batch_size, divides) as net.shards:
        _run(net, dataset, generator, recipe, saver)
    net.shards = net.train_split = None  # the net lives on, and would hold samples
    if objective is not None:
        objective.others = None  # the net lives on, and would hold them
    return net


def _parts(batch_size, divides):
    """Return the context of what computes parts of batches; None for whole ones."""
    if not divides:
        return contextlib.nullcontext()
    n_threads = min(torch.get_num_threads(), -(-batch_size // PART_SIZE))
    return Shards([_call] * n_threads)


def _call(function):
    return function()


def _run(net, dataset, generator, recipe, saver):
    """Run the epochs; skorch's own loop would swallow an interrupt of the user's."""
    net.initialize()
    net.prepare()
    done = saver.load(net, generator) if saver else 0
    net.notify("on_train_begin", X=dataset, y=None)
    best = dict(net.callbacks_).get("best")
    for _ in range(done, recipe.max_epochs):
        if best is not None and best.is_out_of_patience:
            break
        try:
            net.fit_loop(dataset, epochs=1)
        except KeyboardInterrupt:
            if not _has_stopped(net):
                raise
            break
        if saver:
            saver.save(net, generator)
    if average := dict(net.callbacks_).get("average"):
        average.apply(net.module_)
    net.notify("on_train_end", X=dataset, y=None)


def _has_stopped(net):
    """Whether skorch's own early stopping, which raises KeyboardInterrupt, is done."""
    stoppers = [c for _, c in net.callbacks_ if isinstance(c, EarlyStopping)]
    return any(stopper.misses_ >= stopper.patience for stopper in stoppers)


def restore_net(network, history=(), nonlinearity=None):
    """Wrap a trained network in an initialised net, as after training.

    Parameters
    ----------
    network : Network
    history : list of dict, default=()
        Of skorch.
    nonlinearity : callable, default=None
        From scores to what the net predicts.

    Returns
    -------
    SuffixNet
    """
    groups = partial(parameter_groups, lr=0.0, backbone_lr_ratio=1.0, weight_decay=0.0)
    net = SuffixNet(
        network,
        groups=groups,
        criterion=WeightedLoss(nn.Identity()),
        predict_nonlinearity=nonlinearity,
        optimizer=torch.optim.AdamW,
        train_split=None,
        verbose=0,
    ).initialize()
    for row in history:
        net.history.new_epoch()
        for key, value in row.items():
            net.history.record(key, value)
    return net
