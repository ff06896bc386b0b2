"""The L2-SP penalty: weights stay near those that training started from."""

import torch
from torch.nn import functional as F

__all__ = ["StartingPoint"]


class StartingPoint:
    """Remember the trainable weights of the backbone and penalise leaving them.

    The head has no pretrained weights to stay near; as in the paper, weight decay is
    for it.

    Parameters
    ----------
    named_parameters : iterable of (str, torch.nn.Parameter)
        Of a module at the start. Those that are frozen or whose names start with
        ``head.`` are left out. The others are copied.

    References
    ----------
    X. Li et al. (2018). Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks. https://arxiv.org/abs/1802.01483

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(3, 2)
    >>> start = StartingPoint(layer.named_parameters())
    >>> with torch.no_grad():
    ...     layer.weight += 0.5
    >>> start.penalty(layer).item()
    0.75
    """

    def __init__(self, named_parameters):
        self.values = {
            name: parameter.detach().clone()
            for name, parameter in named_parameters
            if parameter.requires_grad and not name.startswith("head.")
        }

    def penalty(self, module):
        """Compute half the squared distance from the start.

        Parameters
        ----------
        module : torch.nn.Module
            With parameters of the names that are remembered.

        Returns
        -------
        torch.Tensor of shape ()
            Its gradient is how far each weight has gone.
        """
        if not self.values:
            return torch.zeros(())
        parameters = dict(module.named_parameters())
        return 0.5 * sum(
            F.mse_loss(parameters[name], self._start(name, parameters), reduction="sum")
            for name in self.values
        )

    def _start(self, name, parameters):
        # Kept where the parameter is, so that it moves there once and not every step.
        self.values[name] = self.values[name].to(parameters[name])
        return self.values[name]
