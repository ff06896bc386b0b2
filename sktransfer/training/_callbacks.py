"""Callbacks of a training: weight averaging, early stopping, checks of the loss."""

from __future__ import annotations

import copy
import math
import warnings
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

# The statistics of BatchNorm are averaged as well, since they must fit the weights (Cai
# et al., 2021, https://arxiv.org/abs/2101.08482). No other buffer is learned.
_STATISTICS = ("running_mean", "running_var")
# A training has not converged if its loss is more than this many times the loss of
# scores that are all zero.
_HOPELESS = 10
_SHOWN = ("train_loss", "valid_loss", "objective")  # columns beside a progress bar


def print_line(line: str) -> None:
    """Print a line. The built-in function is not pickled where Ray has replaced it."""
    print(line)


class WeightAverage(Callback):
    """Exponential moving average of the weights over the steps of the optimiser.

    After step t, ``average = d * average + (1 - d) * weight`` with ``d = min(decay, (1
    + t) / (10 + t))``, since with a large decay the average would stay close to the
    initial weights for long [2]_. Trainable parameters and the statistics of BatchNorm
    are averaged [1]_.

    References
    ----------
    .. [1] B. T. Polyak and A. B. Juditsky (1992). Acceleration of Stochastic
       Approximation by Averaging. https://doi.org/10.1137/0330046
    .. [2] M. Abadi et al. (2015). TensorFlow, ``tf.train.ExponentialMovingAverage``.
       https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.initialize()

    def initialize(self) -> WeightAverage:
        """Discard the averages."""
        self.average_, self.learned_ = None, None
        self.resume_from_: dict = {}
        return self

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Start from the present weights, or from a loaded state."""
        self.learned_ = _learned(net.module_)
        if self.average_ is not None:  # the training continues
            return
        update = partial(_update_averages, decay=self.decay)
        average = AveragedModel(self.learned_, multi_avg_fn=update, use_buffers=True)
        if self.resume_from_:
            average.load_state_dict(self.resume_from_)
        else:
            average.update_parameters(self.learned_)
        self.average_, self.resume_from_ = average, {}

    def on_batch_end(self, net, training=None, **kwargs):
        """Update the averages if the batch completed a step."""
        if training and getattr(net, "has_stepped", True):
            self.average_.update_parameters(self.learned_)

    @contextmanager
    def averaged(self):
        """Context in which the network has the averages instead of its weights.

        The averages are not copied, so the network must not be trained meanwhile.
        """
        own = [(tensor, tensor.data) for tensor, _ in self._pairs()]
        try:
            for tensor, average in self._pairs():
                tensor.data = average.data
            yield
        finally:
            for tensor, data in own:
                tensor.data = data

    def apply(self):
        """Copy the averages into the network, and discard them."""
        for tensor, average in self._pairs():
            tensor.detach().copy_(average.detach())
        self.initialize()

    def state_dict(self) -> dict:
        """Return the state of the averages, which is empty before a training."""
        average = self.average_
        return self.resume_from_ if average is None else average.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Resume from a state when the training begins."""
        self.resume_from_ = state

    def _pairs(self):
        """Return the averaged tensors of the network, each with its average."""
        if self.average_ is None:
            return []
        of_both = (_tensors(m) for m in (self.learned_, self.average_.module))
        return [*zip(*of_both, strict=True)]


def _learned(module):
    """Return a module that holds the tensors of another one that are averaged."""
    holder = nn.ParameterList([p for p in module.parameters() if p.requires_grad])
    statistics = (b for n, b in module.named_buffers() if n.endswith(_STATISTICS))
    for i, buffer in enumerate(statistics):
        holder.register_buffer(f"statistics_{i}", buffer)
    return holder


def _tensors(module):
    return [*module.parameters(), *module.buffers()]


def _update_averages(averages, values, n_averaged, *, decay):
    t = int(n_averaged) - 1  # the first update is that of the initial weights
    get_ema_multi_avg_fn(min(decay, (1 + t) / (10 + t)))(averages, values, n_averaged)


class Progress(Callback):
    """Record the learning rate of each epoch and, for classes and labels, the accuracy.

    The rate is the highest of all groups in the last step of the epoch. Samples of the
    training are predicted as they were seen, before each step; for multilabel
    targets, the accuracy is the share of labels that are right.
    """

    def __init__(self, has_labels: bool):
        self.has_labels = has_labels

    def on_epoch_begin(self, net, **kwargs):
        """Discard what was seen in the last epoch."""
        self.seen_ = {True: [], False: []}

    def on_batch_end(self, net, batch, training, y_pred, sample_weight, **kwargs):
        """Look at the rate, and count the samples that are predicted correctly."""
        if training:
            self.lr_ = max(group["lr"] for group in net.optimizer_.param_groups)
        if self.has_labels:
            y, weight = to_device((batch[1], sample_weight), y_pred.device)
            share = float((weight * _right(y_pred, y)).sum())
            self.seen_[training].append((share, float(weight.sum())))

    def on_epoch_end(self, net, **kwargs):
        """Record them."""
        for training, name in {True: "train_accuracy", False: "valid_accuracy"}.items():
            if self.seen_[training]:
                right, total = np.sum(self.seen_[training], axis=0)
                net.history.record(name, float(right / total))
        net.history.record("lr", self.lr_)


def _right(scores, y):
    """Return whether each sample, or which share of its labels, is right (n,)."""
    if y.ndim == 1:
        return scores.argmax(dim=1) == y
    return ((scores > 0) == (y > 0)).float().mean(dim=1)


class EpochBar(Callback):
    """Show a progress bar over the epochs, with the losses of the last one."""

    def initialize(self) -> EpochBar:
        """Start without a bar."""
        self.bar_: Any = None
        return self

    def on_train_begin(self, net, **kwargs):
        """Open the bar, after the epochs of a training that was resumed."""
        done, n = len(net.history), net.max_epochs
        self.bar_ = tqdm(desc="Train", initial=done, total=n, unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        """Move the bar by one epoch."""
        row = net.history[-1]
        shown = {name: f"{row[name]:.3g}" for name in _SHOWN if name in row}
        self.bar_.set_postfix(shown, refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar, which a pickle could not hold."""
        self.bar_.close()
        self.bar_ = None


class BestWeights(Callback):
    """Restore the weights that were best on the validation samples.

    These are the weights of an epoch, or those of the start, with the highest accuracy
    and, among equal accuracies, the lowest loss; without accuracies, those with the
    lowest loss. After `patience` epochs that were no better, the training stops.
    """

    def __init__(self, patience: int):
        self.patience = patience

    def initialize(self) -> BestWeights:
        """Discard the results and weights of an earlier training."""
        self.best_, self.weights_, self.n_worse_ = None, None, 0
        return self

    def on_train_begin(self, net, **kwargs):
        """Keep the weights of the start, unless a state was loaded."""
        if self.best_ is None:
            self._compare(net, _validate(net))

    def on_epoch_end(self, net, **kwargs):
        """Keep the weights if they are the best so far."""
        self._compare(net, net.history[-1])
        net.history.record("valid_best", self.n_worse_ == 0)

    def _compare(self, net, row):
        """Compare accuracy and loss with the best so far; NaN is never better."""
        found = (row.get("valid_accuracy", 0.0), -row["valid_loss"])
        is_number = not math.isnan(found[1])
        if is_number and (self.best_ is None or found > tuple(self.best_)):
            with net.averaged():
                self.weights_ = copy.deepcopy(_trained(net.module_))
            self.best_, self.n_worse_ = found, 0
        else:
            self.n_worse_ += 1

    def on_train_end(self, net, **kwargs):
        """Restore the best weights."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_, strict=False)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the training should stop."""
        return self.n_worse_ >= self.patience

    def state_dict(self) -> dict:
        """Return the best results and weights, and the epochs since then."""
        return {"best": self.best_, "weights": self.weights_, "n_worse": self.n_worse_}

    def load_state_dict(self, state: dict) -> None:
        """Resume from a state."""
        self.best_, self.weights_ = state["best"], state["weights"]
        self.n_worse_ = state["n_worse"]


def _validate(net):
    """Return accuracy and loss of the validation samples, by the names of epochs."""
    _, held = net.train_split(None)
    losses, right, weights, sizes = [], [], [], []
    for batch in net.get_iterator(held, training=False):
        step, (y, weight) = net.validation_step(batch), batch[1]
        losses.append(float(step["loss"]))
        sizes.append(len(weight))
        if hasattr(net.predict_nonlinearity, "decide"):
            scores = step["y_pred"].cpu()
            right.append(float((weight.cpu() * _right(scores, y.cpu())).sum()))
            weights.append(float(weight.sum()))
    row = {"valid_loss": float(np.average(losses, weights=sizes))}
    return row | ({"valid_accuracy": sum(right) / sum(weights)} if right else {})


def _trained(module):
    """Return the trained parameters, and all buffers, as BatchNorm may change them."""
    frozen = {n for n, p in module.named_parameters() if not p.requires_grad}
    return {k: v for k, v in module.state_dict().items() if k not in frozen}


class DivergenceCheck(Callback):
    """Raise an error if the training diverges, and warn if it did not converge."""

    def on_train_begin(self, net, **kwargs):
        """Discard the losses of an earlier training."""
        self.chance_, self._seen = None, []

    def on_batch_end(self, net, batch, training, y_pred, sample_weight, **kwargs):
        """Compute the loss of scores that are all zero, in the first epoch."""
        if training and self.chance_ is None:
            target = to_device((batch[1], sample_weight), y_pred.device)
            loss = net.criterion_(torch.zeros_like(y_pred), target)
            self._seen.append((float(loss), len(y_pred)))

    def on_epoch_end(self, net, **kwargs):
        """Raise an error if the loss is not finite."""
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
        """Warn if the last loss is far above that of scores that are all zero."""
        if self.chance_ is None or len(net.history) == 1:  # too early to say
            return
        last = net.history[-1]["train_loss"]
        if last > _HOPELESS * self.chance_ > 0:
            warnings.warn(
                f"The training did not converge: its last loss, {last:.3g}, is above "
                f"the loss of chance, {self.chance_:.3g}. Take a lower `lr` (it is "
                f"{net.lr:g}) or more epochs.",
                stacklevel=2,
            )
