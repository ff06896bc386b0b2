"""The skorch net that trains a suffix and a head."""

from functools import partial

import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    EpochTimer,
    GradientNormClipping,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
)
from torch import nn

from sktransfer.compute import keep_freed_memory
from sktransfer.training._batches import ActivationBatches, ActivationDataset
from sktransfer.training._optimiser import parameter_groups, warmup_cosine

__all__ = ["SuffixNet", "restore_net", "train"]


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy whose samples have weights."""

    def forward(self, scores, target):
        """Compute the loss.

        Parameters
        ----------
        scores : torch.Tensor of shape (n, n_classes)
        target : (y, sample_weight), torch.Tensors of shape (n,)

        Returns
        -------
        torch.Tensor of shape ()
            Sum of the weighted losses over n: weights of mean one over all samples
            keep the scale of the gradients.
        """
        y, weight = target
        losses = nn.functional.cross_entropy(scores, y, reduction="none")
        return (losses * weight).mean()


class SuffixNet(NeuralNetClassifier):
    """skorch's classifier over activations, with our parameter groups.

    Parameters
    ----------
    module : Network
    groups : callable
        From named parameters to the groups of the optimiser.
    **kwargs
        skorch's.
    """

    def __init__(self, module, *, groups=None, **kwargs):
        super().__init__(module, **kwargs)
        self.groups = groups

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("print_log", PrintLog()),
        ]

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Group the parameters by learning rate and weight decay."""
        _, kwargs = super().get_params_for_optimizer(prefix, [])
        kwargs.pop("lr", None)
        return (self.groups(named_parameters),), kwargs


def train(
    network,
    activations,
    y,
    sample_weight,
    *,
    max_epochs,
    lr,
    backbone_lr_ratio,
    weight_decay,
    batch_size,
    device,
    seed,
    callbacks=None,
    verbose=0,
):
    """Train a suffix and a head on activations.

    AdamW, half a cosine with a warm-up of a tenth of the steps, gradients clipped to
    norm 1.

    Parameters
    ----------
    network : Network
        Trained in place.
    activations : torch.Tensor of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        Labels in [0, n_classes).
    sample_weight : ndarray of shape (n_samples,)
    max_epochs : int
    lr, backbone_lr_ratio, weight_decay : float
        See :func:`parameter_groups`.
    batch_size : int
    device : torch.device
    seed : int
        Of the order of the samples and of dropout. No global generator is touched.
    callbacks : list of skorch callbacks or (name, callback), default=None
        Further ones.
    verbose : int, default=0
        Whether to print a line an epoch.

    Returns
    -------
    SuffixNet
    """
    weight = torch.as_tensor(sample_weight, dtype=torch.float32)
    dataset = ActivationDataset(
        activations, torch.from_numpy(y), weight / weight.mean()
    )
    batches = partial(ActivationBatches, generator=torch.Generator().manual_seed(seed))
    n_steps = max_epochs * len(ActivationBatches(dataset, batch_size))
    net = SuffixNet(
        network,
        groups=partial(
            parameter_groups,
            lr=lr,
            backbone_lr_ratio=backbone_lr_ratio,
            weight_decay=weight_decay,
        ),
        criterion=WeightedCrossEntropy,
        predict_nonlinearity=partial(torch.softmax, dim=1),
        optimizer=torch.optim.AdamW,
        optimizer__fused=True,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train=batches,
        train_split=None,
        device=device,
        verbose=verbose,
        callbacks=[
            ("clip", GradientNormClipping(1.0)),
            (
                "schedule",
                LRScheduler(
                    torch.optim.lr_scheduler.LambdaLR,
                    lr_lambda=partial(warmup_cosine, n_steps=n_steps),
                    step_every="batch",
                ),
            ),
            *clone(list(callbacks or []), safe=False),
        ],
    )
    with torch.random.fork_rng(), keep_freed_memory():
        torch.manual_seed(seed)
        net.fit(dataset, y=None)
    return net


def restore_net(network, history=()):
    """Wrap a trained network in an initialised net, as after training.

    Parameters
    ----------
    network : Network
    history : list of dict, default=()
        Of skorch.

    Returns
    -------
    SuffixNet
    """
    groups = partial(parameter_groups, lr=0.0, backbone_lr_ratio=1.0, weight_decay=0.0)
    net = SuffixNet(
        network,
        groups=groups,
        criterion=WeightedCrossEntropy,
        predict_nonlinearity=partial(torch.softmax, dim=1),
        optimizer=torch.optim.AdamW,
        train_split=None,
        verbose=0,
    ).initialize()
    for row in history:
        net.history.new_epoch()
        for key, value in row.items():
            net.history.record(key, value)
    return net
