"""Modalities, such as images: the protocols, and the registry.

A modality is a package with three parts: a :class:`Modality`, which checks X and reads
it into samples; the samples; and one or more preprocessings, which turn samples into
model inputs. `register_modality` registers it. Everything downstream handles tensors,
or a small named group of tensors, and never asks for the kind of a sample.
"""

from abc import abstractmethod
from functools import partial
from typing import Any, Protocol

from sktransfer.utils import Registry, check_parts


class Modality(Protocol):
    """Protocol of the object that checks X and reads it into samples.

    A subclass must have the attributes and define :meth:`set_tags`, :meth:`validate`,
    :meth:`validate_with_y` and :meth:`read`; the other methods have defaults.

    Samples are a sequence: ``samples[i]`` is the argument of ``prepare``. They have

    - ``read(i)``, which returns the digest (bytes) and the sample from one reading;
    - ``digest(i)``, which identifies the sample by its content (bytes);
    - ``can_change(i)``, whether another reading may differ, as that of a file may, and
      ``warn_of_change(i)``, which warns that it did;
    - ``take(indices)``, a part of the samples; ``describe(i)``, words for messages; and
      ``name(i)``, the path of a sample or None;
    - ``labels``, an array or None, and ``digests``, a list of bytes or None; ``take``
      selects from both;
    - optionally ``rows(start, stop)``, a block of cheap samples as one array.

    A sample that cannot be read raises :class:`UnreadableSampleError`.

    Attributes
    ----------
    noun : str
        The word for its samples in messages, such as "vectors".
    options : tuple of str
        The parameters of estimators that it takes, of "image_size", "image_shape" and
        "value_range". The others must have their default values.
    n_views : int
        Number of fixed views of each sample that ``augment="auto"`` adds to the
        samples, by ``augmentation("auto", preprocessing)``; 0, the default, for none.
    default_n_views : int or None
        Number of fixed views of each sample for any other `augment`, where
        :class:`~sktransfer.Augmentation` does not say it; None, the default, for a new
        view in each epoch.
    most_seen : int or None
        Samples that pass in a training with ``max_epochs="auto"``, each counted once
        per epoch; None for no limit. The default is 40,000.
    removed_errors : tuple of (float, float)
        Share of the errors of a linear probe that training is expected to remove, mean
        and standard deviation from data to data: if all stages are trained, without the
        first third, and without two thirds. The default was measured on images.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inputs import Modality
    >>> class Series(Modality):
    ...     noun, options = "time series", ()
    ...
    ...     def set_tags(self, tags, options):
    ...         tags.input_tags.three_d_array = True
    ...
    ...     def validate(self, estimator, X, *, reset):
    ...         return np.asarray(X, dtype=np.float32)
    ...
    ...     def validate_with_y(self, estimator, X, y):
    ...         return self.validate(estimator, X, reset=True), np.asarray(y)
    ...
    ...     def read(self, X, preprocessing, *, on_error="raise"):
    ...         return SeriesSamples(X)  # a class with the methods above
    >>> Series().validate(None, [[[0.5], [0.7]]], reset=True).shape
    (1, 2, 1)
    """

    noun: str
    options: tuple
    n_views: int = 0
    default_n_views: int | None = None
    most_seen: int | None = 40_000
    removed_errors: tuple = ((0.15, 0.3), (0.15, 0.3), (0.1, 0.2))

    def looks_like(self, X: Any) -> bool:
        """Return whether X can only be of this modality."""
        return False

    def takes_network(self, module: Any) -> bool:
        """Return whether a network can only take this modality."""
        return False

    def default_preprocessing(self, module: Any, n_features: int | None) -> Any:
        """Return the preprocessing for a network that has none.

        Parameters
        ----------
        module : torch.nn.Module
        n_features : int or None
            Number of columns of X, if it is a table.

        Raises
        ------
        ValueError
            If there is no default.
        """
        raise ValueError(
            f"A network of {self.noun} needs a `preprocessing`. Got None; pass it to "
            "`load_backbone`."
        )

    @abstractmethod
    def set_tags(self, tags: Any, options: dict) -> None:
        """Set the input tags of scikit-learn.

        Parameters
        ----------
        tags : sklearn.utils.Tags
            Changed in place.
        options : dict
            The parameters of the estimator that are in ``options``.
        """

    @abstractmethod
    def validate(self, estimator: Any, X: Any, *, reset: bool) -> Any:
        """Return X after the checks that scikit-learn requires.

        Parameters
        ----------
        estimator : BaseEstimator
            Its ``n_features_in_`` and ``feature_names_in_`` are set, or compared to X.
        X : array-like
        reset : bool
            Whether they are set.
        """

    @abstractmethod
    def validate_with_y(self, estimator: Any, X: Any, y: Any) -> tuple[Any, Any]:
        """Return X and y, checked together as in ``fit``."""

    @abstractmethod
    def read(self, X: Any, preprocessing: Any, *, on_error: str = "raise") -> Any:
        """Return X as samples that are read one at a time.

        The parameters in ``options``, without "image_size", are passed by name, too.

        Parameters
        ----------
        X : object
            As ``validate`` returns it, or samples, which are returned as they are.
        preprocessing : Preprocessing
        on_error : {"raise", "warn"}, default="raise"
            With "warn", samples that cannot be read raise no error before they are
            read.
        """

    def augmentation(self, augment: Any, preprocessing: Any) -> Any:
        """Return the callable for the parameter `augment` of estimators.

        Parameters
        ----------
        augment : str or callable
            Name of a preset, or a callable.
        preprocessing : Preprocessing
            The preprocessing that follows.

        Returns
        -------
        callable
            From one sample to another, which draws from torch's global generator alone.

        Raises
        ------
        ValueError
            If samples of this modality cannot be augmented, or not in this way.
        """
        raise ValueError(
            f"`augment` must be None, as there are no random views of {self.noun}. Got "
            f"{augment!r}."
        )

    def examples(self, preprocessing: Any, n: int) -> Any:
        """Return `n` different made-up samples, with which a preprocessing is tried.

        None, the default, is for samples that cannot be made up.
        """
        return None

    def plain_features(self, options: dict) -> tuple[str, Any] | None:
        """Return a name and a transformer for a baseline without a network, or None.

        Parameters
        ----------
        options : dict
            The parameters of the estimator that are in ``options``.
        """
        return None

    def raw_input(self, preprocessing: Any) -> Any:
        """Return the module with which ``to_torch`` begins.

        Parameters
        ----------
        preprocessing : Preprocessing

        Returns
        -------
        torch.nn.Module
            From a tensor of raw samples, or several, to model inputs. It has their
            ``names``, a tuple of str, and ``example(n, image_size)`` returns such a
            tensor, or a tuple of them. ``n_free_axes``, if it has that, is the number
            of their first axes that may have any length; 1 otherwise.

        Raises
        ------
        ValueError
            If models of this modality cannot be exported.
        """
        raise ValueError(f"Models of {self.noun} cannot be exported.")


MODALITIES: Registry[Any] = Registry(
    "modalities",
    "`kind` must be the name of a registered modality, one of {names}",
    partial(check_parts, protocol=Modality, noun="modality"),
)


def register_modality(name: str, modality: Modality) -> None:
    """Register a modality under the name that its preprocessings have as ``kind``.

    Parameters
    ----------
    name : str
        The ``kind`` of its preprocessings, an identifier. Names of built-in modalities
        are taken; any other modality of the same name is replaced.
    modality : Modality
        The object that checks and reads X.

    Raises
    ------
    TypeError
        If the modality lacks a part of the protocol.
    ValueError
        If the name is not an identifier, or is taken.

    See Also
    --------
    list_modalities : The names of all modalities.

    Examples
    --------
    >>> from sktransfer.inputs import Modality, list_modalities, register_modality
    >>> class Series(Modality):
    ...     noun, options = "time series", ()
    ...
    ...     def set_tags(self, tags, options):
    ...         tags.input_tags.three_d_array = True
    ...
    ...     def validate(self, estimator, X, *, reset):
    ...         return X
    ...
    ...     def validate_with_y(self, estimator, X, y):
    ...         return X, y
    ...
    ...     def read(self, X, preprocessing, *, on_error="raise"):
    ...         return X
    >>> register_modality("series", Series())
    >>> "series" in list_modalities()
    True
    """
    MODALITIES.register(name, modality)


def list_modalities() -> list[str]:
    """Return the names of the registered modalities.

    Returns
    -------
    list of str

    See Also
    --------
    register_modality : Registers a modality by name.

    Examples
    --------
    >>> from sktransfer.inputs import list_modalities
    >>> list_modalities()[:5]
    ['audio', 'image', 'multichannel', 'text', 'vector']
    """
    return list(MODALITIES)


class UnreadableSampleError(ValueError):
    """A sample of X cannot be read.

    Parameters
    ----------
    row : int
        Its position in X.
    name : str or None
        Its path, if it has one.
    reason : str
        Why it cannot be read, and what to do.
    noun : str or None, default=None
        The ``noun`` of its modality, such as "images".

    Examples
    --------
    >>> from sktransfer.inputs import UnreadableSampleError
    >>> print(UnreadableSampleError(3, "a.wav", "the file does not exist", "sounds"))
    Samples must be readable sounds. Got sample 3 ('a.wav'), which is not; replace it or
    leave it out. The reason: the file does not exist
    """

    def __init__(
        self, row: int, name: str | None, reason: str, noun: str | None = None
    ):
        super().__init__(row, name, reason, noun)
        self.row = row
        self.name = name
        self.reason = reason
        self.noun = noun

    def __str__(self):
        """Return which sample cannot be read, what to do, and why."""
        readable = f"readable {self.noun}" if self.noun else "readable"
        return (
            f"Samples must be {readable}. Got {self.where}, which is not; replace it "
            f"or leave it out. The reason: {self.reason}"
        )

    @property
    def where(self) -> str:
        """The sample in words, as "sample 3 ('a/b.png')" (str)."""
        return f"sample {self.row}" + (f" ({self.name!r})" if self.name else "")
