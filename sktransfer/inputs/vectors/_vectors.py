"""The modality of vectors: rows of real numbers, and their preprocessing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktransfer.inputs._modality import MODALITIES, Modality
from sktransfer.inputs._preprocessing import WithoutImageSize
from sktransfer.inputs._reading import to_numpy
from sktransfer.utils import digest, validate_data


@dataclass(frozen=True)
class VectorPreprocessing(WithoutImageSize):
    """Preprocessing of vectors, which are passed to the network in float32.

    Parameters
    ----------
    n_features : int
        Length of a vector.

    Examples
    --------
    >>> from sktransfer.inputs import VectorPreprocessing
    >>> VectorPreprocessing(3).prepare([1, 2, 3])
    array([1., 2., 3.], dtype=float32)
    """

    n_features: int

    kind: ClassVar[str] = "vector"
    noun: ClassVar[str] = "vectors"
    is_costly_to_read: ClassVar[bool] = False
    shape_hint: ClassVar[str] = (
        "Its first layer must take float32 rows of that length, which is `n_features` "
        "or the number of columns of X."
    )

    @property
    def input_shape(self) -> tuple[int]:
        """Shape of one model input, (d,)."""
        return (self.n_features,)

    @property
    def prepared_shape(self) -> tuple[int]:
        """Shape of one prepared sample, (d,)."""
        return self.input_shape

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        return f"vector-v1;n_features={self.n_features}"

    def example(self, n: int = 2) -> torch.Tensor:
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

    def prepare(self, row: Any) -> np.ndarray:
        """Return a row, or a block of rows, in float32.

        Parameters
        ----------
        row : array-like of shape (d,) or (b, d)
            Real numbers.

        Returns
        -------
        row : float32 ndarray of the same shape
            The same values.
        """
        return np.asarray(row, dtype=np.float32)

    def to_input(self, batch: torch.Tensor) -> torch.Tensor:
        """Return a batch of rows in float32.

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
    """Rows of a validated matrix (n, d), with the interface of `Samples`.

    `indices` are the rows that are samples, in order; None for all. Vectors have no
    labels and no value range. An empty X, or one of another shape, raises a ValueError.
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
        """Return row `i` in float32, of shape (d,)."""
        return self._X[self._indices[i]].astype(np.float32)

    def rows(self, positions: Sequence[int]) -> np.ndarray:
        """Return some rows in float32, of shape (len(positions), d)."""
        return self._X[self._indices[positions]].astype(np.float32, copy=False)

    def take(self, indices: Any) -> "VectorSamples":
        """Return some of the samples, by their indices or a mask, without copying them.

        `describe` still names their positions in X.
        """
        indices = np.arange(len(self))[indices]
        taken = VectorSamples(self._X, self._X.shape[1], self._indices[indices])
        if self.digests is not None:
            taken.digests = [self.digests[i] for i in indices]
        return taken

    def can_change(self, i: int) -> bool:
        """Return whether another reading of row `i` may differ, which is never so."""
        return False

    def describe(self, i: int) -> str:
        """Return the words for sample `i` in messages, as "sample 3"."""
        return f"sample {self._indices[i]}"

    def read(self, i: int) -> tuple[bytes, np.ndarray]:
        """Return the digest of row `i`, and the row."""
        return self.digest(i), self[i]

    def digest(self, i: int) -> bytes:
        """Return a hash of the values of row `i` in float32."""
        return digest(b"vector:" + self[i].tobytes())


class RawRows(nn.Module):
    """Check rows of numbers, which are model inputs without any change."""

    names = ("rows",)

    def __init__(self, preprocessing: VectorPreprocessing):
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute model inputs from rows, float32 of shape (n, d)."""
        n_features = self.preprocessing.n_features
        if rows.ndim != 2 or rows.shape[1] != n_features:
            raise ValueError(
                f"Rows must be a tensor of shape (n, {n_features}). Got shape "
                f"{tuple(rows.shape)}."
            )
        return self.preprocessing.to_input(rows)

    def example(self, n: int, image_size=None) -> torch.Tensor:
        """Return random rows; `image_size` must be None, as there are no images."""
        (n_features,) = self.preprocessing.with_size(image_size).input_shape
        generator = torch.Generator().manual_seed(0)
        return torch.randn(n, n_features, generator=generator)

    def extra_repr(self):
        """Name the settings."""
        return self.preprocessing.key()


class Vectors(Modality):
    """The modality of vectors, the default if X looks like no other modality."""

    noun = "vectors"
    options = ()
    most_seen = None  # whose networks are small

    def looks_like(self, X: Any) -> bool:
        """Return False: a table may also hold samples of other modalities."""
        return False

    def takes_network(self, module: Any) -> bool:
        """Return False: layers that take vectors occur in any network."""
        return False

    def default_preprocessing(
        self, module: nn.Module, n_features: int | None
    ) -> VectorPreprocessing:
        """Return the preprocessing for rows as long as the first layer takes."""
        if n_features is None:
            widths = (_width(layer) for layer in module.modules())
            n_features = next((width for width in widths if width is not None), 0)
        if n_features:  # a lazy layer says 0
            return VectorPreprocessing(n_features)
        raise ValueError(
            f"{type(module).__name__} does not say how long its vectors are. Pass "
            "`n_features`."
        )

    def examples(self, preprocessing: Any, n: int) -> np.ndarray:
        """Return a block of rows, each of larger numbers than the one before."""
        rows = np.random.RandomState(0).rand(n, *preprocessing.input_shape)
        return (rows + np.arange(n)[:, None]).astype(np.float32)

    def set_tags(self, tags: Any, options: dict) -> None:
        """Leave the tags unchanged: scikit-learn's defaults are those of tables."""

    def validate(self, estimator: Any, X: Any, *, reset: bool) -> np.ndarray:
        """Return X as a float32 array of shape (n, d)."""
        return validate_data(estimator, _plain(X), reset=reset, dtype=np.float32)

    def validate_with_y(self, estimator: Any, X: Any, y: Any) -> tuple:
        """Return X as a float32 array of shape (n, d), and y as an array or a table."""
        X, given = _plain(X), _plain(y)
        X, y = validate_data(estimator, X, given, dtype=np.float32, multi_output=True)
        return X, given if hasattr(given, "columns") else y

    def read(
        self, X: Any, preprocessing: Any, *, on_error: str = "raise"
    ) -> VectorSamples:
        """Return X as samples; `on_error` has no effect, as every row can be read."""
        if isinstance(X, VectorSamples):
            return X
        return VectorSamples(X, preprocessing.n_features)

    def augmentation(self, augment: Any, preprocessing: Any) -> Any:
        """Raise a ValueError: vectors cannot be augmented before the network."""
        raise ValueError(
            "`augment` must be None for a backbone that takes vectors. Got "
            f"{augment!r}; `augment__activations` is for any backbone."
        )

    def plain_features(self, options: dict) -> tuple[str, Any]:
        """Return the standardised columns."""
        return "raw columns", StandardScaler()

    def raw_input(self, preprocessing: VectorPreprocessing) -> RawRows:
        """Return the module that checks rows and returns them unchanged."""
        return RawRows(preprocessing)


def _width(layer):
    return getattr(layer, "in_features", getattr(layer, "num_features", None))


def _plain(values):
    return to_numpy(values) if isinstance(values, torch.Tensor) else values


MODALITIES.add_built_in("vector", Vectors())
