"""An exponential moving average of the weights."""

from contextlib import contextmanager
from functools import partial

import torch
from skorch.callbacks import Callback
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]

# BatchNorm's statistics are averaged with the weights, as they have to fit the weights
# they are used with (Cai et al., 2021, https://arxiv.org/abs/2101.08482). Where they
# are fixed, so is their average. No other buffer is learned.
_STATISTICS = ("running_mean", "running_var")


class WeightAverage(Callback):
    """Average the weights over the steps of the optimiser.

    After each step, ``average = d * average + (1 - d) * weight`` with ``d = min(decay,
    (1 + t) / (10 + t))`` after t steps: in the beginning a large decay would be mostly
    the starting point. Only trainable parameters and the statistics of BatchNorm are
    averaged; those that are unfrozen later join then.

    Parameters
    ----------
    decay : float
        In [0, 1). Of about the last ``1 / (1 - decay)`` steps in the end.

    Attributes
    ----------
    averages_ : dict of str to torch.Tensor
        By the names in the net's module.
    n_updates_ : int

    References
    ----------
    B. T. Polyak and A. B. Juditsky (1992). Acceleration of Stochastic Approximation by
    Averaging. https://doi.org/10.1137/0330046

    M. Abadi et al. (2015). TensorFlow, ``tf.train.ExponentialMovingAverage``.
    https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage
    """

    hooks_ = ()

    def __init__(self, decay):
        self.decay = decay
        self.initialize()

    def initialize(self):
        """Forget the averages.

        Returns
        -------
        WeightAverage
        """
        self.averages_, self.n_updates_ = {}, 0
        return self

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Follow the steps of the optimiser."""
        self.on_train_end(net)  # a training that failed has left its hooks
        module, optimizer = net.module_, net.optimizer_
        self._include(module)
        # Of the optimiser, as batches need not be steps: gradients may be accumulated.
        self.hooks_ = (
            optimizer.register_step_pre_hook(partial(self._include, module)),
            optimizer.register_step_post_hook(partial(self._update, module)),
        )

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Follow them no longer."""
        for hook in self.hooks_:
            hook.remove()
        self.hooks_ = ()

    @contextmanager
    def averaged(self, module):
        """Give a module the averages inside a `with` block, and its own after it.

        They are the averages themselves, not copies: the module is for inference there.

        Parameters
        ----------
        module : torch.nn.Module
            The net's.

        Yields
        ------
        torch.nn.Module
            The same.
        """
        tensors = self._tensors(module)
        own = {name: tensor.data for name, tensor in tensors.items()}
        try:
            for name, tensor in tensors.items():
                tensor.data = _like(tensor, self.averages_[name])
            yield module
        finally:
            for name, tensor in tensors.items():
                tensor.data = own[name]

    def apply(self, module):
        """Give a module the averages for good, and forget them.

        Parameters
        ----------
        module : torch.nn.Module
            The net's.
        """
        for name, tensor in self._tensors(module).items():
            tensor.detach().copy_(self.averages_[name])
        self.initialize()

    def state_dict(self):
        """Return what an interrupted training needs to go on.

        Returns
        -------
        dict
            Of the count and the tensors, which are not copied.
        """
        return {"n_updates": self.n_updates_, "averages": dict(self.averages_)}

    def load_state_dict(self, state):
        """Take up a state, after the net is initialised and before it is trained.

        Parameters
        ----------
        state : dict
            Of `state_dict`. Its tensors are copied.
        """
        self.n_updates_ = state["n_updates"]
        self.averages_ = {k: v.clone() for k, v in state["averages"].items()}

    def _include(self, module, *_):
        """Start averages of what has none at its present value."""
        for name, tensor in _learned(module):
            if name not in self.averages_:
                self.averages_[name] = tensor.detach().clone()

    def _update(self, module, *_):
        """Move the averages towards the present values."""
        tensors, t = self._tensors(module), self.n_updates_
        averages = {n: _like(tensors[n], a) for n, a in self.averages_.items()}
        update = get_ema_multi_avg_fn(min(self.decay, (1 + t) / (10 + t)))
        values = [tensor.detach() for tensor in tensors.values()]
        update(list(averages.values()), values, None)
        self.averages_, self.n_updates_ = averages, t + 1

    def _tensors(self, module):
        """Tensors of a module that have averages, by name, in the averages' order."""
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for name, average in self.averages_.items():
            if name not in tensors or tensors[name].shape != average.shape:
                raise ValueError(
                    "The averaged weights must be those of this network. Got "
                    f"{name!r} of shape {tuple(average.shape)}, which it does not "
                    "have. Load the state that was saved with this network."
                )
        return {name: tensors[name] for name in self.averages_}


def _learned(module):
    """Names and tensors that training changes."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            yield name, parameter
    for name, buffer in module.named_buffers():
        if name.endswith(_STATISTICS):
            yield name, buffer


def _like(tensor, average):
    """Return the average as a tensor is: its device, its dtype and its strides.

    Files need not keep strides, and where kernels are laid out differently, results
    are rounded differently.
    """
    same = average.device == tensor.device and average.dtype == tensor.dtype
    if same and average.stride() == tensor.stride():
        return average
    return torch.empty_like(tensor, requires_grad=False).copy_(average)
