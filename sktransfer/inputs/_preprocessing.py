"""From samples to model inputs: the protocol, and what preprocessings share."""

from typing import Any, ClassVar, Protocol, Self


class Preprocessing(Protocol):
    """Protocol of the step from samples to the model inputs that weights expect.

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

    Examples
    --------
    >>> import torch
    >>> from PIL import Image
    >>> from sktransfer.backbones import load_backbone
    >>> preprocessing = load_backbone("efficientnet_lite0").preprocessing
    >>> preprocessing.kind, preprocessing.input_shape
    ('image', (3, 224, 224))
    >>> pixels = preprocessing.prepare(Image.new("RGB", (640, 480), "teal"))
    >>> pixels.shape, pixels.dtype
    ((224, 224, 3), dtype('uint8'))
    >>> preprocessing.to_input(torch.tensor(pixels)[None]).shape
    torch.Size([1, 3, 224, 224])
    """

    kind: str
    input_shape: tuple
    prepared_shape: tuple | None
    is_image: bool
    is_costly_to_read: bool
    tolerates_low_precision: bool
    shape_hint: str

    def example(self, n: int = 2) -> Any:
        """Return `n` made-up model inputs, as ``to_input`` returns them."""

    def with_size(self, image_size: Any) -> "Preprocessing":
        """Return the preprocessing for inputs of another size; None keeps the size."""

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""

    def prepare(self, sample: Any) -> Any:
        """Return one sample as an array or a dict of arrays."""

    def to_input(self, batch: Any) -> Any:
        """Return the model inputs of a batch of prepared samples, on its device."""


class WithoutImageSize:
    """Base of preprocessings of samples that are no images, and have no image size.

    What ``prepare`` returns is the model input. A subclass has a ``noun``, such as
    "texts", for messages.
    """

    noun: ClassVar[str]
    is_image: ClassVar[bool] = False
    tolerates_low_precision: ClassVar[bool] = False

    def with_size(self, image_size: None) -> Self:
        """Return itself: these samples have no image size.

        Parameters
        ----------
        image_size : None
            There is no other value.

        Returns
        -------
        preprocessing : object
            The same.

        Raises
        ------
        ValueError
            If `image_size` is not None.
        """
        if image_size is None:
            return self
        raise ValueError(
            f"`image_size` must be None for a backbone that takes {self.noun}. Got "
            f"{image_size!r}; leave it out."
        )

    def to_input(self, batch: Any) -> Any:
        """Return model inputs, which are what `prepare` returns.

        Parameters
        ----------
        batch : Tensor or dict of str to Tensor of shape (b, ...)
            Prepared samples.

        Returns
        -------
        inputs : Tensor or dict of str to Tensor of shape (b, ...)
            The same.
        """
        return batch
