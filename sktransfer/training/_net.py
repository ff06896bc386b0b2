"""The skorch net that trains the network above the boundary."""

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, r2_score
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, PassthroughScoring, PrintLog
from skorch.utils import to_device
from torch import nn

from sktransfer.compute import (
    ALONE,
    fixed_threads,
    halving,
    n_samples,
    take_rows,
)
from sktransfer.training._callbacks import WeightAverage, print_line
from sktransfer.training._gradients import PART_SIZE, add_gradients
from sktransfer.training._loss import StartingPoint
from sktransfer.training._network import Network


class SuffixNet(NeuralNet):
    """skorch net that trains a :class:`Network` on activations.

    `groups` maps named parameters to groups of the optimiser; `mix` mixes the samples
    of a training batch; `draws` are the random streams for dropout and mixing, by
    default torch's global generators; `shards` are workers that compute parts of a
    batch in parallel; with `most_positions`, sequences are computed in parts of similar
    length; and with `in_bfloat16`, the stages are trained in bfloat16. `ranks` are the
    processes that share each batch; losses and scores are those of all. `l2_sp`,
    `max_grad_norm` and `accumulate_grad_batches` are those of :class:`TrainingRecipe`;
    other arguments are those of :class:`skorch.NeuralNet`.
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
        most_positions=None,
        in_bfloat16=False,
        ranks=ALONE,
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
        self.most_positions = most_positions
        self.in_bfloat16 = in_bfloat16
        self.ranks = ranks

    @property
    def _default_callbacks(self):
        callbacks = [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
        ]
        callbacks += [("print_log", PrintLog(sink=print_line))] * bool(self.verbose)
        if self.train_split is not None:
            callbacks.insert(2, ("valid_loss", PassthroughScoring(name="valid_loss")))
        if getattr(self.criterion, "objective", None) is not None:
            added = PassthroughScoring(name="objective", on_train=True)
            callbacks.insert(2, ("objective", added))
        return callbacks

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Return the groups of parameters, with learning rates and weight decay."""
        if self.groups is None:
            return super().get_params_for_optimizer(prefix, named_parameters)
        _, kwargs = super().get_params_for_optimizer(prefix, [])
        kwargs.pop("lr", None)
        return (self.groups(list(named_parameters)),), kwargs

    def prepare(self):
        """Reset the counters, and store the initial weights for `l2_sp`."""
        self.optimizer_.zero_grad()  # which an interrupted training may have left
        self.n_batches_done_ = 0
        self._at_a_time = math.inf
        self._start = None
        if self.l2_sp:
            self._start = StartingPoint(self.module_.named_parameters())

    def train_step_single(self, batch, **fit_params):
        """Compute the loss of a batch and add the gradients of this process's share.

        If the device runs out of memory, this and later batches are computed in smaller
        parts.
        """
        self._set_training(True)
        z, (y, weight) = to_device(batch, self.device)
        rows, n = self.ranks.share(len(y)), len(y)
        if n_samples(z):
            loss, scores = self._train_on_share(z, (y[rows], weight[rows]), n)
        else:
            loss, scores = self._nothing()
        step = self._of_all(loss, scores)
        self.n_outputs_ = step["y_pred"].shape[1]
        return step

    def _nothing(self):
        """Return the loss and the scores of no samples."""
        none = torch.zeros(0, 0, device=self.device)
        return none.sum(), none

    def _of_all(self, loss, scores):
        """Return loss and scores of a batch, of which this process has a share."""
        return {"loss": self.ranks.sum(loss), "y_pred": self.ranks.gather(scores)}

    def _train_on_share(self, z, target, n_total):
        """Add the gradients of samples, which are all of a batch or a share of it."""
        size = min(self._at_a_time, n_samples(z))
        if self.shards is not None:
            size = min(size, PART_SIZE)
        others = self._draw_others(n_samples(z))
        with self._drawing(), _explain_single_sample():
            z = self.module_.augment(z)
            mixed = (z,) if self.mix is None else self.mix(z)
            objective = self._objective(others)
            (loss, scores), fitting = halving(
                lambda n: self._add_gradients(
                    mixed, target, objective, n, n_total, again=n < size
                ),
                size,
                torch.device(self.device),
                "Freeze more stages with `freeze`. ",
            )
        if fitting < size:
            self._at_a_time = fitting
        return loss, scores

    def _draw_others(self, n):
        """Draw target samples; not within `_drawing`, as views use other threads."""
        objective = self.criterion_.objective
        others = None if objective is None else objective.draw(n, self.n_batches_done_)
        return None if others is None else to_device(others, self.device)

    def _objective(self, others):
        """Return the function that computes scores and objective; None without one."""
        objective = self.criterion_.objective
        if objective is None:
            return None
        if others is not None:
            others = self.module_.augment(others)
        progress = self.n_batches_done_ / (self.n_batches * self.max_epochs)

        def compute(z, rows):
            part = None if others is None else take_rows(others, rows)
            scores, added = objective(self.module_, z, part, progress)
            self.history.record_batch("objective", float(added.detach()))
            return scores, added

        return compute

    def _add_gradients(self, mixed, target, objective, size, n_total, *, again):
        if again:
            self._drop_gradients()
        z, *mixing = mixed
        has_penalty = self._start is not None and self.ranks.is_first
        return add_gradients(
            partial(self.module_.scores, in_bfloat16=self.in_bfloat16),
            self.criterion_,
            z,
            target,
            size=size,
            parameters=[p for p in self._parameters() if p.requires_grad],
            shards=self.shards,
            mixing=mixing,
            penalty=self._penalty if has_penalty else None,
            objective=objective,
            n_batches=self._n_accumulated(),
            n_total=n_total,
            most_positions=None if objective else self.most_positions,
        )

    def _parameters(self):
        return [parameter for _, parameter in self.get_all_learnable_params()]

    def _penalty(self):
        return self.l2_sp * self._start.penalty()

    def _drop_gradients(self):
        """Reset the gradients that a batch left before it ran out of memory."""
        if self.n_batches_done_ % self.n_batches % self.accumulate_grad_batches:
            raise MemoryError(
                f"{self.device} ran out of memory within a step, after the gradients "
                "of other batches were added. Take a smaller `batch_size` and a larger "
                f"`accumulate_grad_batches` (it is {self.accumulate_grad_batches})."
            )
        self.optimizer_.zero_grad()

    def _drawing(self):
        return contextlib.nullcontext() if self.draws is None else self.draws.active()

    def _n_accumulated(self):
        """Count the batches of this step, which may be fewer at the end of an epoch."""
        done = self.n_batches_done_ % self.n_batches  # of this epoch
        left = self.n_batches - done + done % self.accumulate_grad_batches
        return min(self.accumulate_grad_batches, left)

    @fixed_threads()
    def train_step(self, batch, **fit_params):
        """Train on a batch, and update the weights if it completes a step."""
        step = self.train_step_single(batch, **fit_params)
        done = (self.n_batches_done_ + 1) % self.n_batches  # of this epoch
        self.has_stepped = done % self.accumulate_grad_batches == 0
        if self.has_stepped:
            self.ranks.sum_gradients(self._parameters())
        named = list(self.get_all_learnable_params())
        self.notify(
            "on_grad_computed", named_parameters=named, batch=batch, training=True
        )
        self.n_batches_done_ += 1
        if self.has_stepped:
            if self.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self._parameters(), self.max_grad_norm)
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step

    def infer(self, x, **fit_params):
        """Compute scores; unlike skorch, without unpacking activations in a dict."""
        return self.module_(to_device(x, self.device))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if hasattr(self.predict_nonlinearity, "decide"):
            tags.estimator_type = "classifier"
        return tags

    @property
    def classes_(self) -> np.ndarray:
        """Codes of the classes, as scorers of probabilities expect."""
        return np.arange(self.n_outputs_)

    def predict(self, X):
        """Predict class codes or multilabel indicators; scores for other tasks."""
        predicted = super().predict(X)
        decide = getattr(self.predict_nonlinearity, "decide", None)
        return predicted if decide is None else decide(predicted)

    def score(self, X, y):
        """Compute the accuracy of codes or, for other tasks, the R² of scores.

        Scoring callbacks without `scoring` call it, as that of an estimator.
        """
        is_classifier = hasattr(self.predict_nonlinearity, "decide")
        metric = accuracy_score if is_classifier else r2_score
        return float(metric(y, self.predict(X)))

    def __getstate__(self):
        # The samples and threads of a training that goes on are not part of the net.
        return {**super().__getstate__(), "train_split": None, "shards": None}

    def notify(self, method_name, **cb_kwargs):
        """Call the callbacks, for which weights are separate from batches ``(z, y)``.

        They are passed as `sample_weight`, since skorch's scoring expects ``(z, y)``.
        Of several processes, ``z`` is the share of one, and the others are of all.
        """
        if method_name == "on_batch_end":
            z, (y, weight) = cb_kwargs["batch"]
            kind = "train" if cb_kwargs["training"] else "valid"
            self.history.record_batch(f"{kind}_batch_size", len(y))
            cb_kwargs.update(batch=(z, y), sample_weight=weight)
        super().notify(method_name, **cb_kwargs)

    def find_callback(self, kind: type[Callback]) -> Any:
        """Return the first callback of a class; None if there is none."""
        return next((c for _, c in self.callbacks_ if isinstance(c, kind)), None)

    def averaged(self):
        """Return a context in which the network has its averaged weights, if any."""
        average = self.find_callback(WeightAverage)
        return average.averaged() if average else contextlib.nullcontext()

    def validation_step(self, batch, **fit_params):
        """Compute the loss of a batch with the averaged weights, if any."""
        z, target = batch
        rows, n = self.ranks.share(len(target[0])), len(target[0])
        if rows.start == rows.stop:
            return self._of_all(*self._nothing())
        share = take_rows(z, rows), tuple(part[rows] for part in target)
        with self.averaged(), self._drawing(), fixed_threads():
            step = super().validation_step(share, **fit_params)
        return self._of_all(step["loss"] * (len(share[1][0]) / n), step["y_pred"])


@contextlib.contextmanager
def _explain_single_sample():
    """Add a hint to the error of BatchNorm on a single sample."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "A batch must have two samples or more if BatchNorm normalises by its "
            "statistics, as with `batch_norm='train'` or in a `head`. Got one sample: "
            "give more samples and a `batch_size` of 2 or more, or set "
            "`batch_norm='eval'`."
        ) from error


def restore_net(
    network: Network, history=(), nonlinearity: Callable | None = None
) -> SuffixNet:
    """Wrap a trained network and its history in an initialised net."""
    net = SuffixNet(
        network,
        criterion=nn.Identity,
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
