"""Protocol of domain adaptation methods: their context, their hooks, their result."""

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
from sktransfer.training._recipe import ResolvedRecipe
from sktransfer.training._train import train
from sktransfer.utils import Registry


class AdaptationResult(NamedTuple):
    """Result of :meth:`AdaptationMethod.after_training`.

    Attributes
    ----------
    state : dict or None
        Plain values and arrays with which the method can adapt the same network again
        without the source. The estimator keeps them as ``adaptation_state_`` and passes
        them on as ``AdaptationContext.state``.
    net : SuffixNet or None
        Result of :meth:`AdaptationContext.train`, if the method trained. It becomes
        ``net_`` of the estimator, and its epochs are appended to ``history_``.

    Examples
    --------
    >>> from sktransfer.adaptation import AdaptationResult
    >>> result = AdaptationResult(state={"source_mean": [0.2, 0.7]})
    >>> result.net is None  # the method did not train
    True
    """

    state: dict | None = None
    net: SuffixNet | None = None


@dataclass(frozen=True)
class AdaptationContext:
    """Training that an adaptation method may inspect and change.

    Attributes
    ----------
    network : Network
        Suffix, pooling and head above the boundary, which may be changed in place.
    backbone_name, boundary : str
        Names of the backbone and of the boundary, for messages.
    source : Activations or None
        Source samples at the boundary; None if they are no longer available.
    source_seen : list of Activations or None
        Of the source, what the head was trained on: the fixed views if the estimator
        draws some, and otherwise `source` alone.
    target : Activations or None
        Target samples at the boundary, in an order that does not depend on their order
        in X; None if there are none.
    target_views : Activations, FixedViews, FreshViews or None
        Target samples to train on: random views if the estimator augments samples, and
        `target` otherwise. An `augment` with ``for_source_only = True``, such as one
        that moves source samples towards the target domain, is not applied.
    target_digests : list of bytes
        Hashes of the target samples, which are equal for equal samples.
    n_outputs : int
        Number of scores per sample.
    is_multilabel : bool
        Whether the targets are multilabel.
    state : dict or None
        State that the method last returned for this network.
    recipe : ResolvedRecipe
        Settings of the training.
    device : torch.device
        Device of the network.
    batch_size : int
        Samples per forward pass without gradients, as for ``network.features``.
    seed : int
        Seed of the training, other than that of an earlier training of the network.
    stages_above : dict of str to int
        Number of stages between each parameter and the head, by parameter name.
    nonlinearity : callable or None
        Map from scores to the predictions of a net.
    adapter : callable
        ``adapter(suffix)`` is a context manager in which low-rank adapters are trained
        instead of the weights of the suffix, if the estimator asks for them.
    callbacks : sequence
        skorch callbacks given by the user.
    verbose : int
        Whether to print the progress of the training.

    Examples
    --------
    A method that raises the score of classes that are seldom predicted:

    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier
    >>> from sktransfer.adaptation import (
    ...     AdaptationMethod, AdaptationResult, DomainAdaptedClassifier
    ... )
    >>> class Balance(AdaptationMethod):
    ...     name, needs_source = "balance", False
    ...
    ...     def after_training(self, context):
    ...         if context.target is None:
    ...             return None
    ...         network = context.network
    ...         z = network.features(context.target, context.batch_size)
    ...         shares = network.head(z).softmax(dim=1).mean(dim=0).detach()
    ...         network.head.bias.data -= shares.log()
    ...         return AdaptationResult()
    >>> digits = load_digits(n_class=3)
    >>> X, y = digits.images[:60] / 16, digits.target[:60]
    >>> network = FineTunedClassifier(freeze="all", image_size=32)
    >>> model = DomainAdaptedClassifier(network, method=Balance(), style=None)
    >>> domain = np.repeat([1, -1], 30)
    >>> model.fit(X, y, sample_domain=domain).score(X[30:], y[30:]) > 0.5
    True
    """

    network: Network
    backbone_name: str
    boundary: str
    source: Any
    source_seen: Sequence | None
    target: Any
    target_views: Any
    target_digests: Sequence[bytes]
    n_outputs: int
    is_multilabel: bool
    state: dict | None
    recipe: ResolvedRecipe
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

        Parameters that require no gradient are not changed.

        Parameters
        ----------
        data : Data
            Samples to train on.
        loss : callable
            ``loss(scores, y)`` returns the loss of each sample.
        objective : Objective, default=None
            Objective that is added to the loss.
        callbacks : sequence of skorch callbacks, default=()
            Callbacks that are called before those of the user.

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
    """Base of the methods that adapt a network to a target domain without labels.

    A method that trains on both domains adds an objective to the loss of each batch,
    see `make_objective`. Other methods change the network after the training on the
    source, in `after_training`. By default, all hooks do nothing. The constructor only
    assigns its parameters, so that ``method__weight`` can be searched.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the objective.

    Attributes
    ----------
    name : str
        Name of the method in messages and in the model card.
    needs_source : bool
        Whether the network is trained on source and target together. Otherwise it is
        trained on the source alone, and `after_training` adapts it.
    needs_stages : bool
        Whether the method changes stages, so that some must be trained.
    needs_classes : bool
        Whether the method needs classes that exclude each other.
    needs_labels : bool
        Whether the method needs classes or multilabel y, and cannot adapt regression.
    lr_schedule : str
        Schedule of the learning rates if the estimator has ``lr_schedule="auto"``.

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
    ...     def distance(source, target, progress):
    ...         difference = source.features.mean(0) - target.features.mean(0)
    ...         return difference.square().sum()
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
        """Return the objective, which is added to the loss with the factor `weight`.

        Parameters
        ----------
        n_features, n_outputs : int
            Numbers of inputs and outputs of the head.
        is_multilabel : bool
            Whether the targets are multilabel.
        seed : int
            Seed of random weights, drawn within ``sktransfer.compute.seeded(seed)``.

        Returns
        -------
        callable, torch.nn.Module or None
            ``objective(source, target, progress)`` returns a tensor of shape ().
            `source` and `target` are a :class:`DomainBatch` each, of a batch of source
            samples and of as many target samples; `progress` is the share of the
            training that is done, in [0, 1). If it is a module, its parameters are
            trained as well.
        """

    def can_adapt(self, suffix: nn.Module) -> bool:
        """Return whether the method can change these stages.

        ``freeze="auto"`` freezes fewer stages until it can. If the user's `freeze`
        leaves stages that the method cannot change, `before_training` should raise an
        error that says what is missing.

        Parameters
        ----------
        suffix : torch.nn.Module
            The stages above a boundary.

        Returns
        -------
        bool
        """
        return True

    def before_training(self, context: AdaptationContext) -> None:
        """Check or change the network before it is trained.

        Parameters
        ----------
        context : AdaptationContext
            Context whose network has no head, and which has no activations.
        """

    def after_training(self, context: AdaptationContext) -> AdaptationResult | None:
        """Adapt the network after it was trained on the source.

        This hook is also called when a fitted estimator is adapted to target samples
        later, without the source. The network is in eval mode, and is restored if the
        hook raises an error.

        Parameters
        ----------
        context : AdaptationContext
            Context with the trained network.

        Returns
        -------
        AdaptationResult or None
            None if the method changed nothing.
        """


def _check_method(method):
    if not (isinstance(method, type) and issubclass(method, AdaptationMethod)):
        raise TypeError(
            f"`method` must be a subclass of AdaptationMethod. Got {method!r}."
        )
    has_objective = method.make_objective is not AdaptationMethod.make_objective
    if method.needs_source and not has_objective:
        raise TypeError(
            "`method` must define make_objective if it needs the source. Got "
            f"{method!r}; set needs_source = False if it adapts in after_training."
        )


ADAPTATION_METHODS: Registry[type[AdaptationMethod]] = Registry(
    "adaptation methods",
    "`method` must be one of {names}, an AdaptationMethod or a callable",
    _check_method,
)
