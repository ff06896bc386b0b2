"""The head as a convex problem: the start of a training, or all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sktransfer.compute import fixed_threads
from sktransfer.training._network import Network
from sktransfer.training._online import (
    Online,
    assume_online,
    begin_online,
    go_on_online,
    is_narrow,
)

__all__ = ["HeadData", "Probe", "Solution", "head_data", "last_layer"]


class HeadData(NamedTuple):
    """What a head is solved on, with one row per view of a sample.

    Attributes
    ----------
    features : torch.Tensor of shape (n, d)
    y : ndarray of shape (n, ...)
    weight : ndarray of shape (n,)
        The views of a sample share its weight.
    groups : ndarray of shape (n,)
        Of which sample each row is.
    """

    features: torch.Tensor
    y: np.ndarray
    weight: np.ndarray
    groups: np.ndarray


class Solution(NamedTuple):
    """A linear head that was solved as a convex problem.

    Attributes
    ----------
    head : torch.nn.Linear
    strength : float
        Of the penalty, as the estimator's parameter has it.
    row : dict
        For the history.
    """

    head: nn.Linear
    strength: float
    row: dict


@dataclass(frozen=True)
class Probe:
    """The convex problem that a linear head is.

    Attributes
    ----------
    solve : callable
        ``solve(features, y, sample_weight, groups, is_part)`` returns a `Solution`.
    penalty : callable
        From the strength to what half the sum of the squared weights is multiplied by
        in the problem.
    loss : callable
        From scores and targets to the loss of each sample, without regularisation.
    kind : {"multiclass", "multilabel", "regression"}
    is_final : bool
        Whether the problem has the loss of the training, so that nothing is left to
        train where only a linear head is.
    """

    solve: Callable
    penalty: Callable
    loss: Callable
    kind: str
    is_final: bool

    def begin_online(self, solution: Solution, data: HeadData) -> tuple | None:
        """Summarise the samples of a solution, so that others may follow."""
        if not is_narrow(solution.head):
            return None
        return (*begin_online(solution.head, *data[:3], self.kind),)

    def solve_on(
        self,
        linear: nn.Linear,
        data: HeadData,
        *,
        strength: float,
        online: tuple | None,
        n_before: int,
    ) -> tuple[tuple, int]:
        """Solve a head on more samples, and keep what it learned of others.

        Parameters
        ----------
        linear : torch.nn.Linear
            Changed in place.
        data : HeadData
        strength : float
            Of the penalty of the first solution.
        online : tuple or None
            Summary of the samples before; None after `fit`, which keeps none.
        n_before : int
            Number of samples of `fit`.

        Returns
        -------
        online : tuple
        n_iter : int
        """
        penalty, kind = self.penalty(strength), self.kind
        if online is None:
            online = assume_online(linear, data.features, n_before, penalty, kind)
        online, n_iter = go_on_online(Online(*online), linear, *data[:3], penalty, kind)
        return (*online,), n_iter

    def mean_loss(self, network: Network, data: HeadData) -> float:
        """Compute the mean loss of the head of a network."""
        head = network.head
        device = next((p.device for p in head.parameters()), data.features.device)
        with torch.inference_mode(), fixed_threads():
            scores = head.eval()(data.features.to(device)).cpu()
            losses = self.loss(scores, torch.from_numpy(data.y))
        return float(np.average(losses.numpy(), weights=data.weight))


def head_data(network: Network, views, y, weight, batch_size: int) -> HeadData:
    """Compute what a head is solved on, from some views of the samples.

    Parameters
    ----------
    network : Network
    views : list of Activations
    y : torch.Tensor of shape (n_samples, ...)
    weight : ndarray of shape (n_samples,)
    batch_size : int
        Samples per forward pass.
    """
    n_views = len(views)
    features = [network.features(activations, batch_size) for activations in views]
    return HeadData(
        torch.cat(features),
        torch.cat([y] * n_views).numpy(),
        np.tile(weight / n_views, n_views),
        np.tile(range(len(y)), n_views),
    )


def last_layer(network: Network) -> nn.Linear:
    """Return the layer that gives the scores."""
    return list(network.head.modules())[-1]
