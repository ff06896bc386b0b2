"""Registry of the heads, which map features to scores, and the built-in heads."""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.compute import seeded
from sktransfer.training._network import head_from_linear
from sktransfer.utils import (
    Registry,
    TransferWarning,
    check_callable,
    warn_caller,
)

# Width of the hidden layer: that of fastai's heads, for features of the usual 512 to
# 2,048 entries; https://docs.fast.ai/vision.learner.html#create_head.
_HIDDEN = 512
_SCALE = 10.0  # the initial scale of Gidaris and Komodakis
# Minimum norm that features are divided by, as in Chen et al. With torch's default of
# 1e-12, gradients of features that are all zero would be multiplied by 1e12.
_SHORTEST = 1e-5


def _check_factory(factory):
    check_callable(factory, "factory", "factory(n_features, n_outputs)")
    if isinstance(factory, nn.Module):
        raise TypeError(
            "`factory` must make a head for the numbers of features and outputs. Got "
            f"{type(factory).__name__}, which is a head; pass it as `head`."
        )


HEADS: Registry[Callable[[int, int], nn.Module]] = Registry(
    "heads", "`head` must be one of {names} or an nn.Module", _check_factory
)


def register_head(name: str, factory: Callable[[int, int], nn.Module]) -> None:
    """Register a head by name, for the parameter `head` of the estimators.

    Parameters
    ----------
    name : str
        The value of the parameter `head`, an identifier. Names of built-in heads are
        taken; any other head of the same name is replaced.
    factory : callable
        ``factory(n_features, n_outputs)`` returns a :class:`torch.nn.Module` that maps
        features of shape (n, n_features) to scores of shape (n, n_outputs). Its weights
        may be random: the factory is called with seeded generators.

    Raises
    ------
    TypeError
        If the factory is not callable, or is a module.
    ValueError
        If the name is not an identifier, or is taken.

    See Also
    --------
    list_heads : The names of all heads.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer import FineTunedClassifier, register_head
    >>> def bottleneck(n_features, n_outputs):
    ...     return nn.Sequential(nn.Linear(n_features, 2), nn.Linear(2, n_outputs))
    >>> register_head("bottleneck", bottleneck)
    >>> model = FineTunedClassifier(head="bottleneck")
    """
    HEADS.register(name, factory)


def list_heads() -> list[str]:
    """Return the names of the registered heads.

    Returns
    -------
    list of str

    See Also
    --------
    register_head : Registers a head by name.

    Examples
    --------
    >>> from sktransfer import list_heads
    >>> list_heads()[:3]
    ['linear', 'mlp', 'cosine']
    """
    return list(HEADS)


def make_head(
    head: str | nn.Module,
    n_features: int,
    n_outputs: int,
    *,
    seed: int,
    dropout: float = 0.0,
) -> nn.Module:
    """Make a registered head with random weights, or copy a module with its weights.

    In a copy, only the weights of lazy layers are random. The head is in float32 and on
    the CPU, a `dropout` puts a dropout layer first, and no global generator is changed.
    It is a ValueError if the name is unknown or the head does not fit the shapes.
    """
    factory = None if isinstance(head, nn.Module) else HEADS[head]
    rule = (
        f"`head` must map features of shape (n, {n_features}) to scores of shape "
        f"(n, {n_outputs})."
    )
    with seeded(seed):
        if factory is None:
            made = _copy(head, n_features, rule)
        else:
            made = factory(n_features, n_outputs)
        made = _tried(made.to("cpu", torch.float32), n_features, n_outputs, rule)
    return head_from_linear(made, dropout)


class CosineHead(nn.Module):
    """Head whose scores are cosines of features and class weights, times a scale.

    The scale is learned as its logarithm, as in CLIP (Radford et al., 2021,
    https://arxiv.org/abs/2103.00020), so that it stays positive and changes in
    proportion.

    References
    ----------
    S. Gidaris and N. Komodakis (2018). Dynamic Few-Shot Visual Learning without
    Forgetting. https://arxiv.org/abs/1804.09458

    W.-Y. Chen et al. (2019). A Closer Look at Few-shot Classification.
    https://arxiv.org/abs/1904.04232
    """

    def __init__(self, n_features: int, n_outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_outputs, n_features))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))
        nn.init.normal_(self.weight, std=math.sqrt(2 / n_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute scores (n, n_outputs), in [-scale, scale], from (n, n_features)."""
        features = F.normalize(features, dim=1, eps=_SHORTEST)
        weight = F.normalize(self.weight, dim=1, eps=_SHORTEST)
        return self.log_scale.exp() * F.linear(features, weight)

    @torch.no_grad()
    def start_from(
        self, features: torch.Tensor, y: np.ndarray, weight: np.ndarray
    ) -> None:
        """Set the weights of classes to the means of their normalised features.

        Parameters
        ----------
        features : torch.Tensor of shape (n, n_features)
        y : ndarray of shape (n,)
            Codes of the classes. One without samples keeps its random weights.
        weight : ndarray of shape (n,)
            Weights of the samples.

        References
        ----------
        H. Qi et al. (2018). Low-Shot Learning with Imprinted Weights.
        https://arxiv.org/abs/1712.07136
        """
        units = F.normalize(features.double(), dim=1, eps=_SHORTEST).numpy()
        for code in np.unique(y[weight > 0]):
            share = np.where(y == code, weight, 0)
            self.weight[code] = torch.from_numpy(share @ units / share.sum())

    def extra_repr(self):
        """Return the numbers of features and outputs, for torch's repr."""
        n_outputs, n_features = self.weight.shape
        return f"{n_features}, {n_outputs}"


def _mlp(n_features, n_outputs):
    # With the norm, one learning rate suits features of any scale; unlike BatchNorm, it
    # has no statistics. It follows the layer, since normalising few features loses
    # information: a single feature would become a constant.
    return nn.Sequential(
        nn.Linear(n_features, _HIDDEN),
        nn.LayerNorm(_HIDDEN),
        nn.GELU(),
        nn.Linear(_HIDDEN, n_outputs),
    )


HEADS.add_built_in("linear", nn.Linear)
HEADS.add_built_in("mlp", _mlp)
HEADS.add_built_in("cosine", CosineHead)


def _copy(head, n_features, rule):
    try:
        return copy.deepcopy(head)
    except ValueError as error:  # torch cannot copy the buffers of lazy layers
        raise ValueError(
            f"{rule} Got a {type(head).__name__} with a lazy layer that cannot be "
            f"copied. Give its size, as torch.nn.BatchNorm1d({n_features}) in the "
            "place of torch.nn.LazyBatchNorm1d()."
        ) from error


def _tried(head, n_features, n_outputs, rule):
    """Check a head on two rows, which also initialises lazy layers."""
    was_training, kind = head.training, type(head).__name__
    try:
        with torch.no_grad():
            scores = head.eval()(torch.zeros(2, n_features))
    except Exception as error:
        raise ValueError(
            f"{rule} Got {kind}, which fails on features of shape (2, {n_features}): "
            f"{error}. torch.nn.LazyLinear finds the number of features by itself."
        ) from error
    got = getattr(scores, "shape", None)
    if got != (2, n_outputs):
        shape = type(scores).__name__ if got is None else f"shape {tuple(got)}"
        raise ValueError(
            f"{rule} Got {kind}, whose output for two rows is of {shape} instead of "
            f"(2, {n_outputs})."
        )
    return head.train(was_training)


def warn_of_probabilities(head: nn.Module, kind: str) -> None:
    """Warn of a head for classes that ends in probabilities, as losses take scores."""
    last = [*head.modules()][-1]
    if kind == "regression" or not isinstance(last, nn.Softmax | nn.Sigmoid):
        return
    warn_caller(
        f"`head` ends in {last}, but its outputs are taken as scores: the loss and "
        "`predict_proba` turn them into probabilities once more, which are never far "
        "from equal. Leave that layer out.",
        TransferWarning,
    )


def constant_head(n_features: int, n_classes: int) -> nn.Linear:
    """Return a linear layer that gives all classes the same score."""
    head = nn.utils.skip_init(nn.Linear, n_features, n_classes)  # draws no numbers
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def open_to_new_classes(
    head: nn.Linear, features: torch.Tensor, known: np.ndarray
) -> None:
    """Set the bias of classes without samples to that of one sample in n."""
    new = np.setdiff1d(np.arange(head.out_features), known)
    with torch.no_grad():
        total = head(features)[:, known].logsumexp(dim=1)  # (n,)
        head.bias[new] = total.min() - np.log(len(features))


def open_outputs(head: nn.Linear, features: torch.Tensor, known: np.ndarray) -> None:
    """Give the absent value of constant outputs a probability of 1 / (2n + 2)."""
    with torch.no_grad():
        constant = ~head.weight.any(dim=1)
        sign = head.bias[constant].sign()
        head.bias[constant] = sign * np.log(2 * len(features) + 1)
