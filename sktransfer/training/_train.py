"""The training of a suffix and a head, from the first epoch to the last."""

import contextlib
import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from skorch.callbacks import EarlyStopping
from skorch.helper import predefined_split
from torch import nn

from sktransfer.compute import ALONE, RandomStream, Ranks, Shards, turn_on
from sktransfer.training._callbacks import (
    BestWeights,
    DivergenceCheck,
    EpochBar,
    Progress,
    WeightAverage,
)
from sktransfer.training._data import ActivationBatches, Data, batches_in_order
from sktransfer.training._early_stopping import epochs_to_wait
from sktransfer.training._gradients import PART_SIZE
from sktransfer.training._loss import WeightedLoss
from sktransfer.training._net import SuffixNet
from sktransfer.training._network import Network
from sktransfer.training._recipe import ResolvedRecipe
from sktransfer.training._schedule import parameter_groups, schedule_callback


def train(
    network: Network,
    data: Data,
    *,
    loss: Callable,
    recipe: ResolvedRecipe,
    device: torch.device,
    seed: int,
    validation: Data | None = None,
    stages_above: Mapping[str, int] | None = None,
    mix: Callable | None = None,
    objective: Any = None,
    nonlinearity: Callable | None = None,
    callbacks: list | None = None,
    saver: Any = None,
    divides: bool = False,
    most_positions: int | None = None,
    in_bfloat16: bool = False,
    ranks: Ranks = ALONE,
    verbose: int = 0,
) -> SuffixNet:
    """Train a suffix and a head in place on activations, with AdamW; returns the net.

    The `loss` maps scores and targets to the losses of single samples, see
    :func:`register_loss`, and the `objective` is minimised along with it. The
    validation data are for the validation loss and for early stopping. `seed` is for
    the order of the samples, mixing and dropout: each step has its own random stream
    (:class:`RandomStream`), and torch's global generators are not changed.
    With `verbose` 1 there is a progress bar, and with 2 a printed line per epoch.
    `stages_above` is what :func:`parameter_groups` takes, the `saver` keeps the state
    of the training in a file, and with `divides` threads compute parts of a batch, see
    :func:`is_divisible`. With `most_positions`, sequences of similar length
    are computed together, unless the network has BatchNorm. With `in_bfloat16`, the
    layers that gain by it are computed in bfloat16. Of several processes (`ranks`), all
    start from the weights of the first, and each one has its own random stream. It is a
    ValueError if the loss becomes infinite or NaN.
    """
    ranks.copy_first(network)
    if validation is None:
        _check_monitored(callbacks or ())
    dataset = data.dataset()
    generator = torch.Generator().manual_seed(seed)
    n_batches = len(ActivationBatches(dataset, recipe.batch_size))
    has_labels = hasattr(nonlinearity, "decide")
    own = _own_callbacks(recipe, n_batches, validation is not None, has_labels)
    own += [EpochBar()] if verbose == 1 else []
    net = SuffixNet(
        network,
        mix=mix,
        draws=RandomStream(ranks.seed(seed), device),
        criterion=WeightedLoss(loss, objective),
        predict_nonlinearity=nonlinearity,
        iterator_train=partial(ActivationBatches, generator=generator, ranks=ranks),
        train_split=validation and predefined_split(validation.dataset()),
        device=device,
        verbose=verbose if verbose > 1 else 0,
        callbacks=[*own, *map(_copy, callbacks or ())],
        most_positions=None if _has_batch_norm(network) else most_positions,
        in_bfloat16=in_bfloat16,
        ranks=ranks,
        **_settings(recipe, stages_above),
    )
    net.n_batches = n_batches
    with turn_on(device), _parts(recipe.batch_size, divides) as net.shards:
        _run(net, dataset, generator, recipe, saver)
    net.shards = net.train_split = None  # the net lives on, and would hold samples
    net.ranks = ALONE  # also after the others have ended
    if objective is not None:
        objective.others = None  # likewise
    return net


def _has_batch_norm(network):
    return any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()
    )


def _own_callbacks(recipe, n_batches, validates, has_labels):
    """Return the callbacks of a recipe, in the order in which they are called."""
    n_per_epoch = -(-n_batches // recipe.accumulate_grad_batches)
    n_steps = recipe.max_epochs * n_per_epoch
    callbacks: list = [DivergenceCheck(), Progress(has_labels)]
    if validates and recipe.early_stopping:
        patience = epochs_to_wait(recipe.n_iter_no_change, n_per_epoch)
        callbacks.append(BestWeights(patience))
    if recipe.ema is not None:
        callbacks.append(WeightAverage(recipe.ema))
    return [*callbacks, schedule_callback(recipe.lr_schedule, n_steps)]


def _copy(given):
    """Copy a callback or a pair of name and callback.

    The training changes the attributes of the copy. What they refer to is shared, such
    as the run of an experiment, which is often an open connection.
    """
    if isinstance(given, tuple):
        return given[0], copy.copy(given[1])
    return copy.copy(given)


def monitors_validation(given: Any) -> bool:
    """Return whether a callback, or the second of a pair, needs a validation loss."""
    callback = given[1] if isinstance(given, tuple) else given
    return getattr(callback, "monitor", None) in ("valid_loss", "valid_loss_best")


def _check_monitored(callbacks):
    """Raise an error if a callback monitors a loss that is not computed."""
    for given in callbacks:
        callback = given[1] if isinstance(given, tuple) else given
        if monitors_validation(given):
            monitor = callback.monitor
            raise ValueError(
                f"`callbacks` holds a {type(callback).__name__} that monitors "
                f"{monitor!r}, but there are no validation samples. Give `X_val` and "
                "`y_val` to `fit`, set `early_stopping`, which holds samples out, or "
                f"monitor {monitor.replace('valid', 'train')!r}."
            )


def _settings(recipe, stages_above):
    """Return the parameters of the net that a recipe determines."""
    return {
        "groups": partial(
            parameter_groups,
            lr=recipe.lr,
            backbone_lr_ratio=recipe.backbone_lr_ratio,
            layer_decay=recipe.layer_decay,
            stages_above=stages_above,
            weight_decay=recipe.weight_decay,
        ),
        "l2_sp": recipe.l2_sp,
        "max_grad_norm": recipe.max_grad_norm,
        "accumulate_grad_batches": recipe.accumulate_grad_batches,
        "optimizer": torch.optim.AdamW,
        "optimizer__fused": True,
        "lr": recipe.lr,
        "max_epochs": recipe.max_epochs,
        "batch_size": recipe.batch_size,
        "iterator_valid": batches_in_order,
    }


def _parts(batch_size, divides):
    """Return the context of the threads that compute parts; None for whole batches."""
    if not divides:
        return contextlib.nullcontext()
    n_threads = min(torch.get_num_threads(), -(-batch_size // PART_SIZE))
    return Shards([_call] * n_threads)


def _call(function):
    return function()


def _run(net, dataset, generator, recipe, saver):
    """Run the epochs; skorch's own loop would swallow the user's interrupt."""
    net.initialize()
    net.prepare()
    done = saver.load(net, generator) if saver else 0
    net.notify("on_train_begin", X=dataset, y=None)
    best, average = net.find_callback(BestWeights), net.find_callback(WeightAverage)
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
    if average is not None:
        average.apply()
    net.notify("on_train_end", X=dataset, y=None)


def _has_stopped(net):
    """Return whether skorch's early stopping raised the KeyboardInterrupt (bool)."""
    stoppers = [c for _, c in net.callbacks_ if isinstance(c, EarlyStopping)]
    return any(stopper.misses_ >= stopper.patience for stopper in stoppers)
