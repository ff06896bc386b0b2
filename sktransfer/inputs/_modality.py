"""What a modality is, and which modalities there are.

A modality is a package with three things: a :class:`Modality`, which checks X and reads
it into samples; the samples; and one or more preprocessings, which make model inputs of
them. `register_modality` makes it known. Everything downstream handles tensors, or a
small named group of tensors, and never asks for the kind of a sample.
"""

from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "MODALITIES",
    "Modality",
    "Preprocessing",
    "Unreadable",
    "UnreadableSampleError",
    "explain",
    "register_modality",
]


class Preprocessing(Protocol):
    """How the weights of a network want their samples.

    A sample becomes a model input in two steps: ``prepare`` works on one sample, in
    numpy and on the CPU, and ``to_input`` on a batch, in torch and on any device.

    What ``prepare`` returns is an array, or a dict of named arrays, such as token ids
    and their mask. Shapes may vary from sample to sample. A batch holds samples of
    equal shape only, so samples of different lengths are padded by ``prepare`` to a
    length that is a function of the sample alone, such as the next multiple of 16, and
    a mask says which values are padding. Then the activations of a sample do not depend
    on the samples that share its batch, and may be stored.

    Attributes
    ----------
    kind : str
        Name under which the modality is registered.
    input_shape : tuple of int
        Shape of one model input.
    prepared_shape : tuple of int or None
        Shape of one prepared sample; None if it varies, or is a group of arrays.
    is_image : bool
        Whether samples are RGB images.
    is_costly_to_read : bool
        Whether reading a sample takes longer than a look-up in a store does.
    tolerates_low_precision : bool
        Whether frozen stages may be computed in bfloat16, or with folded layers.
    shape_hint : str
        What to do if a network cannot be run on inputs of this shape.
    """

    kind: str
    input_shape: tuple
    prepared_shape: tuple | None
    is_image: bool
    is_costly_to_read: bool
    tolerates_low_precision: bool
    shape_hint: str

    def example(self, n=2):
        """Return `n` made-up model inputs, as ``to_input`` returns them."""

    def with_size(self, image_size):
        """Return the preprocessing for inputs of another size; None keeps the size."""

    def key(self):
        """Return a stable text of everything that affects the output (str)."""

    def prepare(self, sample):
        """Return one sample as an array or a dict of arrays."""

    def to_input(self, batch):
        """Return the model inputs of a batch of prepared samples, on its device."""


class Modality(Protocol):
    """Checks X and reads it into samples.

    Samples are a sequence: ``samples[i]`` returns what ``prepare`` takes. They have

    - ``read(i)``, which returns the digest (bytes) and the sample from one reading;
    - ``digest(i)``, which identifies the sample by its content (bytes);
    - ``can_change(i)``, whether another reading may give something else, as of a file,
      and ``warn_of_change(i)``, which warns that it did;
    - ``take(indices)``, a part of the samples; ``describe(i)``, words for messages; and
      ``name(i)``, the path of a sample or None;
    - ``labels``, an array or None, and ``digests``, a list of bytes or None, which
      ``take`` takes along;
    - optionally ``rows(start, stop)``, a block of cheap samples as one array.

    A sample that cannot be read raises :class:`UnreadableSampleError`.

    Attributes
    ----------
    noun : str
        What its samples are called in messages, such as "vectors".
    options : tuple of str
        The parameters of estimators that it takes, of "image_size", "image_shape" and
        "value_range". Any other value than the default is an error for the others.
    """

    noun: str
    options: tuple

    def looks_like(self, X):
        """Return whether X can only be of this modality (bool)."""

    def takes_network(self, module):
        """Return whether a network can only take this modality (bool)."""

    def default_preprocessing(self, module, n_features):
        """Return the preprocessing for a network that comes without one.

        Parameters
        ----------
        module : torch.nn.Module
        n_features : int or None
            The number of columns of X, if it is a table.
        """

    def set_tags(self, tags, options):
        """Set the input tags of scikit-learn.

        Parameters
        ----------
        tags : sklearn.utils.Tags
            Changed in place.
        options : dict
            The parameters of the estimator that are in ``options``.
        """

    def validate(self, estimator, X, *, reset):
        """Return X, checked as scikit-learn asks.

        Parameters
        ----------
        estimator : BaseEstimator
            Its ``n_features_in_`` and ``feature_names_in_`` are set, or compared to X.
        X : array-like
        reset : bool
            Whether they are set.
        """

    def validate_with_y(self, estimator, X, y):
        """Return X and y, checked together as in ``fit``."""

    def read(self, X, preprocessing, *, on_error="raise"):
        """Return X as samples that are read one at a time.

        The parameters in ``options``, without "image_size", are passed by name, too.

        Parameters
        ----------
        X : object
            As ``validate`` returns it, or samples, which are returned as they are.
        preprocessing : Preprocessing
        on_error : {"raise", "warn"}
            "warn" leaves samples that cannot be read to whoever reads them.
        """

    def augmentation(self, augment, preprocessing):
        """Return the callable that the parameter `augment` stands for.

        Parameters
        ----------
        augment : str or callable
            Name of a preset, or a function from one sample to another.
        preprocessing : Preprocessing
            What follows.

        Raises
        ------
        ValueError
            If samples of this modality cannot be augmented.
        """

    def raw_input(self, preprocessing):
        """Return the module with which ``to_torch`` begins.

        Parameters
        ----------
        preprocessing : Preprocessing

        Returns
        -------
        torch.nn.Module
            From a tensor of raw samples to model inputs. It has a ``name``, and
            ``example(n, image_size)`` returns such a tensor.

        Raises
        ------
        ValueError
            If models of this modality cannot be exported.
        """


MODALITIES: dict[str, Any] = {}


def register_modality(name: str, modality: Modality) -> None:
    """Make a modality known.

    Parameters
    ----------
    name : str
        The ``kind`` of its preprocessings. A modality of the same name is replaced.
    modality : Modality

    Raises
    ------
    TypeError
        If the modality lacks a part of the protocol.
    """
    parts = [part for part in vars(Modality) if not part.startswith("_")]
    missing = [
        part
        for part in [*Modality.__annotations__, *parts]
        if not hasattr(modality, part)
    ]
    if missing:
        raise TypeError(
            f"A modality must have everything that `Modality` has. {modality!r} lacks "
            f"{missing}."
        )
    MODALITIES[name] = modality


class UnreadableSampleError(ValueError):
    """A sample of X cannot be read.

    Parameters
    ----------
    row : int
        Its position in X.
    name : str or None
        Its path, if it has one.
    reason : str
        Why, and what to do.

    Examples
    --------
    >>> from sktransfer.inputs import UnreadableSampleError
    >>> print(UnreadableSampleError(3, "a.png", "the file does not exist"))
    Samples must be readable. Got sample 3 ('a.png'), which is not; replace it or leave
    it out. The reason: the file does not exist
    """

    def __init__(self, row: int, name: str | None, reason: str):
        super().__init__(row, name, reason)
        self.row = row
        self.name = name
        self.reason = reason

    def __str__(self):
        """Return which sample it is, what to do, and why."""
        return (
            f"Samples must be readable. Got {self.where}, which is not; "
            f"replace it or leave it out. The reason: {self.reason}"
        )

    @property
    def where(self):
        """The sample in words, as "sample 3 ('a/b.png')" (str)."""
        return f"sample {self.row}" + (f" ({self.name!r})" if self.name else "")


@dataclass(frozen=True)
class Unreadable:
    """Placeholder among the items of X for a sample that is known to be unreadable.

    Attributes
    ----------
    reason : str
        Why, and what to do.
    name : str or None
        Its path, if it has one.
    cause : Exception or None
        What was raised.
    """

    reason: str
    name: str | None = None
    cause: Exception | None = None

    def error(self, row):
        """Return the error that names the sample at a row (UnreadableSampleError)."""
        error = UnreadableSampleError(row, self.name, self.reason)
        error.__cause__ = self.cause
        return error


def explain(error):
    """Return the text of an exception, with its type if it says too little."""
    text = str(error)
    if text and isinstance(error, OSError | ValueError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
