"""A learning rate from the data: the range test on the network to be trained."""

import copy
import itertools

import torch
from torch import nn

from sktransfer.compute import Draws, halving, keep_freed_memory
from sktransfer.training._batches import ActivationBatches
from sktransfer.training._gradients import add_gradients
from sktransfer.training._loss import WeightedLoss
from sktransfer.training._lr_finder import find_lr
from sktransfer.training._optimiser import parameter_groups

__all__ = ["try_rates"]


def try_rates(network, data, *, loss, recipe, device, seed, stages_above=None):
    """Train with growing rates, and put the weights back.

    Parameters
    ----------
    network : Network
        On the device.
    data : Data
    loss : callable
        From scores and targets to the losses of single samples.
    recipe : Recipe
        Its `lr` plays no part.
    device : torch.device
    seed : int
    stages_above : dict of str to int, default=None
        See :func:`parameter_groups`.

    Returns
    -------
    LearningRateCurve
    """
    before = copy.deepcopy(network.state_dict())
    groups = parameter_groups(
        network.named_parameters(),
        lr=1.0,
        backbone_lr_ratio=recipe.backbone_lr_ratio,
        layer_decay=recipe.layer_decay,
        stages_above=stages_above,
        weight_decay=recipe.weight_decay,
    )
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    shares = [group["lr"] for group in groups]
    parameters = [p for group in groups for p in group["params"]]
    batches = _endless(data, recipe.batch_size, seed)
    criterion, draws = WeightedLoss(loss), Draws(seed, device)
    size = recipe.batch_size + 1  # the last batch may have one more
    network.train()

    def add(z, target, size):
        optimizer.zero_grad()
        return add_gradients(network, criterion, z, target, size=size)[0]

    def step(lr):
        nonlocal size
        z, target = next(batches)
        z, target = z.to(device), tuple(t.to(device) for t in target)
        with draws.put_in():
            value, size = halving(lambda n: add(z, target, n), size, device)
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = lr * share
        if recipe.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        optimizer.step()
        return float(value)

    try:
        with keep_freed_memory():
            return find_lr(step)
    finally:
        optimizer.zero_grad()
        network.load_state_dict(before)


def _endless(data, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = ActivationBatches(data.dataset(), batch_size, generator)
    return itertools.chain.from_iterable(itertools.repeat(batches))
