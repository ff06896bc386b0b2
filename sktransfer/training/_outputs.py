"""From scores to probabilities, and to the classes or labels that are predicted."""

import torch

__all__ = ["Probabilities"]


class Probabilities:
    """From scores to probabilities, and from these to predictions.

    Parameters
    ----------
    multilabel : bool, default=False
        Whether each output is a label of its own. Otherwise one of them is right.
    """

    def __init__(self, multilabel=False):
        self.multilabel = multilabel

    def __call__(self, scores):
        """Return probabilities.

        Parameters
        ----------
        scores : torch.Tensor of shape (n, n_outputs)

        Returns
        -------
        torch.Tensor of the same shape
        """
        return torch.sigmoid(scores) if self.multilabel else torch.softmax(scores, 1)

    def decide(self, probabilities):
        """Return predictions.

        Parameters
        ----------
        probabilities : ndarray of shape (n, n_outputs)

        Returns
        -------
        ndarray of int of shape (n,) or (n, n_outputs)
            The likeliest class; of several labels, which are likelier than not.
        """
        if self.multilabel:
            return (probabilities > 0.5).astype(int)
        return probabilities.argmax(axis=1)
