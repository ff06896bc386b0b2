"""Rows of numbers as samples, for networks that take vectors."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sktransfer.inputs._arrays import to_numpy
from sktransfer.utils import digest


@dataclass(frozen=True)
class VectorPreprocessing:
    """Rows of numbers, which reach the network as they are, in float32.

    Parameters
    ----------
    n_features : int
        Number of values in a row.

    Examples
    --------
    >>> from sktransfer.inputs import VectorPreprocessing
    >>> VectorPreprocessing(3).prepare([1, 2, 3])
    array([1., 2., 3.], dtype=float32)
    """

    n_features: int

    kind: ClassVar[str] = "vector"
    hint_for_shape: ClassVar[str] = (
        "Its first layer must take rows of that many numbers in float32, which is as "
        "many as `n_features`, or X, says."
    )

    @property
    def input_shape(self):
        """Shape of one model input, (d,)."""
        return (self.n_features,)

    def key(self):
        """Return a stable text of everything that affects the output."""
        return f"vector-v1;n_features={self.n_features}"

    def with_size(self, image_size):
        """Return itself: vectors have no image size.

        Parameters
        ----------
        image_size : None
            Only there to agree with images.

        Returns
        -------
        preprocessing : VectorPreprocessing
            The same.

        Raises
        ------
        ValueError
            If `image_size` is not None.
        """
        if image_size is None:
            return self
        raise ValueError(
            "`image_size` must be None for a backbone that takes vectors. "
            f"Got {image_size!r}; leave it out."
        )

    def example(self, n=2):
        """Return model inputs of the right shape, all zero.

        Parameters
        ----------
        n : int, default=2
            Number of inputs.

        Returns
        -------
        example : float32 Tensor of shape (n, d)
            Zeros, on the CPU.
        """
        return torch.zeros(n, self.n_features)

    def prepare(self, row):
        """Return a row, or a block of rows, in float32.

        Parameters
        ----------
        row : array-like of shape (d,) or (b, d)
            Numbers.

        Returns
        -------
        row : float32 ndarray of the same shape
            The same numbers.
        """
        return np.asarray(row, dtype=np.float32)

    def to_input(self, batch):
        """Return the batch as it is, in float32.

        Parameters
        ----------
        batch : Tensor of shape (b, d)
            Rows.

        Returns
        -------
        inputs : float32 Tensor of shape (b, d)
            The same rows, on the same device.
        """
        return batch.float()


class VectorSamples:
    """Rows of a matrix, with the interface of `Samples`.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Numbers, which the estimator has validated.
    n_features : int
        Number of values in a row.
    indices : ndarray of int of shape (n,) or None, default=None
        Which of the rows, in order; None for all.

    Attributes
    ----------
    labels, value_range : None
        Only images have them.
    digests : list of bytes or None
        As in `Samples`.

    Raises
    ------
    ValueError
        If X is empty or not of the right shape.
    """

    labels = None
    value_range = None

    def __init__(self, X, n_features, indices=None):
        X = to_numpy(X)
        if X.ndim != 2 or X.shape[1] != n_features:
            raise ValueError(
                f"X must have shape (n, {n_features}) for this backbone. "
                f"Got shape {X.shape}."
            )
        if len(X) == 0:
            raise ValueError("X must have at least 1 sample. Got 0.")
        self._X = X
        self._indices = np.arange(len(X)) if indices is None else indices
        self.digests = None

    def __len__(self):
        """Return the number of samples."""
        return len(self._indices)

    def __getitem__(self, i):
        """Return row `i`, a float32 ndarray of shape (d,)."""
        return self._X[self._indices[i]].astype(np.float32)

    def rows(self, start, stop):
        """Return a block of rows, a float32 ndarray of shape (stop - start, d)."""
        return self._X[self._indices[start:stop]].astype(np.float32, copy=False)

    def take(self, indices):
        """Return some of the samples, without copying them.

        Parameters
        ----------
        indices : array-like of int or bool
            Which ones, in order.

        Returns
        -------
        samples : VectorSamples
            They keep their position in X for `describe`.
        """
        indices = np.arange(len(self))[indices]
        taken = VectorSamples(self._X, self._X.shape[1], self._indices[indices])
        if self.digests is not None:
            taken.digests = [self.digests[i] for i in indices]
        return taken

    def describe(self, i):
        """Return the words for sample `i` in messages, as "sample 3"."""
        return f"sample {self._indices[i]}"

    def read(self, i):
        """Return what identifies row `i` (bytes), and the row."""
        return self.digest(i), self[i]

    def digest(self, i):
        """Return what identifies row `i`: a hash of its values in float32 (bytes)."""
        return digest(b"vector:" + self[i].tobytes())
