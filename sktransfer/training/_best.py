"""Keep the best weights, and stop when they get no better."""

import copy

from skorch.callbacks import Callback

__all__ = ["BestWeights"]


class BestWeights(Callback):
    """Restore the weights of the epoch with the lowest validation loss.

    Parameters
    ----------
    patience : int
        Epochs without a lower loss after which the training stops.
    """

    def __init__(self, patience):
        self.patience = patience

    def initialize(self):
        """Forget what was seen."""
        self.loss_, self.weights_, self.n_worse_ = float("inf"), None, 0
        return self

    def on_epoch_end(self, net, **kwargs):
        """Look at the loss."""
        loss = net.history[-1, "valid_loss"]
        if loss < self.loss_:
            with net.averaged():
                weights = copy.deepcopy(_trained(net.module_))
            self.loss_, self.weights_, self.n_worse_ = loss, weights, 0
        else:
            self.n_worse_ += 1
        net.history.record("valid_loss_best", self.n_worse_ == 0)

    def on_train_end(self, net, **kwargs):
        """Restore the best weights."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_, strict=False)

    @property
    def is_out_of_patience(self):
        """Whether the training should stop (bool)."""
        return self.n_worse_ >= self.patience

    def state_dict(self):
        """Return what is needed to go on (dict)."""
        return {"loss": self.loss_, "weights": self.weights_, "n_worse": self.n_worse_}

    def load_state_dict(self, state):
        """Go on from a state."""
        self.loss_, self.weights_ = state["loss"], state["weights"]
        self.n_worse_ = state["n_worse"]


def _trained(module):
    """Parameters that are trained, and buffers, which BatchNorm may move."""
    frozen = {n for n, p in module.named_parameters() if not p.requires_grad}
    return {k: v for k, v in module.state_dict().items() if k not in frozen}
