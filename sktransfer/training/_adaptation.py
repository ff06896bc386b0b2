"""The protocol of domain adaptation methods: what a training calls, and when."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from sklearn.base import BaseEstimator
from torch import nn

from sktransfer.training._data import Data
from sktransfer.training._net import SuffixNet
from sktransfer.training._network import Network
from sktransfer.training._recipe import Recipe
from sktransfer.training._train import train

__all__ = ["AdaptationContext", "AdaptationMethod", "Adapted"]


class Adapted(NamedTuple):
    """What an adaptation method did after the training on the source.

    Attributes
    ----------
    state : dict or None
        What the method needs to adapt the same network again without the source, as
        plain values and arrays. It is kept in ``adaptation_state_`` of the estimator
        and given back in ``AdaptationContext.state``.
    net : SuffixNet or None
        From :meth:`AdaptationContext.train`, if the method trained. It becomes
        ``net_`` of the estimator, and its epochs are appended to ``history_``.
    """

    state: dict | None = None
    net: SuffixNet | None = None


@dataclass(frozen=True)
class AdaptationContext:
    """What an adaptation method sees of a training.

    Attributes
    ----------
    network : Network
        Suffix, pool and head above the boundary, which may be changed in place.
    backbone_name, boundary : str
        For messages.
    source : Activations or None
        Of the source samples at the boundary. None if the source is gone.
    target : Activations or None
        Of the target samples at the boundary, in an order that does not depend on that
        of X. None if there are no target samples.
    target_views : Activations, FixedViews, FreshViews or None
        What is trained on: random views of the target samples if the estimator draws
        some, and otherwise `target`. An `augment` with the attribute
        ``for_source_only = True``, such as one that draws source samples towards the
        target domain, is not applied to the target.
    target_digests : list of bytes
        Hashes of the target samples: equal samples have equal ones.
    n_outputs : int
        Width of the scores.
    is_multilabel : bool
        Whether each output is a label of its own.
    state : dict or None
        What the method returned as ``Adapted.state`` when it last saw this network.
    recipe : Recipe
        Settings of the training.
    device : torch.device
    batch_size : int
        Samples per forward pass without gradients, as for ``network.features``.
    seed : int
        Not that of a training before, if this one goes on.
    stages_above : dict of str to int
        See :func:`parameter_groups`.
    nonlinearity : callable or None
        From scores to what a net predicts.
    callbacks : sequence
        The user's skorch callbacks.
    adapter : callable
        ``adapter(suffix)`` is the context manager in which adapters stand for the
        weights of the suffix, if the estimator trains adapters.
    verbose : int
    """

    network: Network
    backbone_name: str
    boundary: str
    source: Any
    target: Any
    target_views: Any
    target_digests: Sequence[bytes]
    n_outputs: int
    is_multilabel: bool
    state: dict | None
    recipe: Recipe
    device: torch.device
    batch_size: int
    seed: int
    stages_above: Mapping[str, int]
    nonlinearity: Callable | None
    adapter: Callable[[nn.Module], AbstractContextManager]
    callbacks: Sequence = field(default_factory=tuple)
    verbose: int = 0

    def train(
        self,
        data: Data,
        *,
        loss: Callable,
        objective: Any = None,
        callbacks: Sequence = (),
    ) -> SuffixNet:
        """Train the network on other data, with the settings of the estimator.

        Parameters that require no gradient stay as they are.

        Parameters
        ----------
        data : Data
        loss : callable
            From scores and targets to the loss of each sample.
        objective : Objective, default=None
            What is minimised besides the loss.
        callbacks : sequence of skorch callbacks, default=()
            Called before the user's.

        Returns
        -------
        SuffixNet
        """
        with self.adapter(self.network.suffix):
            return train(
                self.network,
                data,
                loss=loss,
                recipe=self.recipe,
                device=self.device,
                seed=self.seed,
                stages_above=self.stages_above,
                objective=objective,
                nonlinearity=self.nonlinearity,
                callbacks=[*callbacks, *self.callbacks],
                verbose=self.verbose,
            )


class AdaptationMethod(BaseEstimator):
    """Base of the methods that adapt a training to a target domain without labels.

    A method that needs the source is trained along with the loss: `make_objective`
    returns what is added to the loss of each batch. A method that does without the
    source changes the network after the training, in `after_training`. All hooks do
    nothing by default. As for any estimator, the constructor only assigns its
    parameters, so that ``method__weight`` can be searched.

    Parameters
    ----------
    weight : float, default=1.0
        What the objective is multiplied by.

    Attributes
    ----------
    name : str
        What messages and the model card call the method.
    needs_source : bool
        Whether source and target are trained on together. Otherwise the network is
        trained on the source as without a target, and `after_training` adapts it.
    needs_stages : bool
        Whether the method changes stages, so that some must be trained.
    needs_classes : bool
        Whether it needs classes that exclude each other.
    needs_labels : bool
        Whether it needs classes or multilabel y, and is not for regression.
    lr_schedule : str
        What ``lr_schedule="auto"`` stands for.

    Examples
    --------
    >>> from sktransfer.adaptation import AdaptationMethod
    >>> class MeanMatching(AdaptationMethod):
    ...     name = "mean matching"
    ...     needs_stages = True
    ...
    ...     def make_objective(self, n_features, n_outputs, is_multilabel, seed):
    ...         return self.distance
    ...
    ...     @staticmethod
    ...     def distance(own, others, progress):
    ...         return (own.features.mean(0) - others.features.mean(0)).square().sum()
    >>> MeanMatching(weight=0.5).get_params()
    {'weight': 0.5}
    """

    name = "custom"
    needs_source = True
    needs_stages = False
    needs_classes = False
    needs_labels = False
    lr_schedule = "cosine"

    def __init__(self, *, weight: float = 1.0):
        self.weight = weight

    def make_objective(
        self, n_features: int, n_outputs: int, is_multilabel: bool, seed: int
    ) -> Callable | nn.Module | None:
        """Return what is added to the loss, times `weight`.

        Parameters
        ----------
        n_features, n_outputs : int
            Of the head.
        is_multilabel : bool
            Whether each output is a label of its own.
        seed : int
            For random weights; draw them inside ``sktransfer.compute.seeded(seed)``.

        Returns
        -------
        callable, torch.nn.Module or None
            ``objective(own, others, progress)`` returns a tensor of shape (). The first
            two are :class:`Seen`, of the batch of source samples and of as many target
            samples; the last is the share of the training that is done. The parameters
            of a module are trained, too.
        """

    def can_adapt(self, suffix: nn.Module) -> bool:
        """Return whether the method can change such stages.

        ``freeze="auto"`` freezes fewer stages until it can. Where the user's `freeze`
        leaves stages that it cannot change, `before_training` should raise an error
        that says what is missing.

        Parameters
        ----------
        suffix : torch.nn.Module
            The stages above a boundary.
        """
        return True

    def before_training(self, context: AdaptationContext) -> None:
        """Check or change the network before it is trained.

        Parameters
        ----------
        context : AdaptationContext
            Its network has no head yet, and there are no activations.
        """

    def after_training(self, context: AdaptationContext) -> Adapted | None:
        """Adapt the network after it was trained on the source.

        It is also called when a fitted estimator is adapted to further target samples,
        then without a source. The network is in eval mode, and is put back as it was
        if this raises.

        Parameters
        ----------
        context : AdaptationContext

        Returns
        -------
        Adapted or None
            None where nothing was done.
        """
