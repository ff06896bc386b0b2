"""Preprocessing of texts: tokens, their truncation, and padding."""

import dataclasses
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import ClassVar, Self

import numpy as np
import torch

from sktransfer.utils import digest, import_optional

# Lengths that texts are padded to: (up to this many tokens, the step between lengths).
_STEPS = ((32, 4), (64, 8), (256, 16))
_STEP_BEYOND = 32
_EXAMPLE_LENGTH = 16
_EXAMPLE = "The quick brown fox jumps over the lazy dog while 12 others watch it. "


@dataclass(frozen=True)
class TextPreprocessing:
    """Preprocessing of texts, or of pairs of texts, to token ids.

    A text becomes the token ids of a tokenizer, including its special tokens. Longer
    texts are truncated to `max_length` tokens; of a pair, the longer text is shortened
    first. The ids are padded at the end to a length that depends on their number alone,
    such as the next multiple of 4, and a mask says which positions hold tokens.

    Parameters
    ----------
    tokenizer : str
        The content of a ``tokenizer.json``, the format of the library tokenizers.
    max_length : int
        Most tokens of a text, including special tokens.
    pad_id : int, default=0
        Token id of padding.
    has_types : bool, default=False
        Whether the network takes token types, which tell the texts of a pair apart.
    prefix : str, default=""
        What is put in front of a text, such as ``"query: "``; of a pair, in front of
        the first text.
    n_positions : int, default=None
        Number of positions that the network has, of which one stays free; None if
        there is no limit.

    Raises
    ------
    ValueError
        If `max_length` leaves no room for a token, or exceeds the positions.

    Examples
    --------
    >>> from sktransfer.backbones import load_backbone
    >>> preprocessing = load_backbone("minilm").preprocessing
    >>> preprocessing.prepare("Stages, not layers.")["ids"]
    array([ 101, 5711, 1010, 2025, 9014, 1012,  102,    0])
    """

    tokenizer: str = field(repr=False)
    max_length: int
    pad_id: int = 0
    has_types: bool = False
    prefix: str = ""
    n_positions: int | None = None

    kind: ClassVar[str] = "text"
    prepared_shape: ClassVar[None] = None
    is_image: ClassVar[bool] = False
    is_costly_to_read: ClassVar[bool] = False
    tolerates_low_precision: ClassVar[bool] = False
    shape_hint: ClassVar[str] = "It must take token ids and their mask."

    @property
    def input_shape(self) -> dict[str, tuple[int]]:
        """Shapes of one model input; those of others differ in their length."""
        return dict.fromkeys(self._names, (_EXAMPLE_LENGTH,))

    @property
    def _names(self):
        return ("ids", "mask", "types") if self.has_types else ("ids", "mask")

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        parts = self._tokenizer_digest, self.max_length, self.pad_id, self.has_types
        rest = self.prefix, self.n_positions
        return f"text-v1;{parts!r};{rest!r};tokenizers={version('tokenizers')}"

    @property
    def _tokenizer_digest(self):
        return _digest_of(self.tokenizer)

    def with_size(self, image_size: None) -> Self:
        """Return itself: texts have no image size.

        Parameters
        ----------
        image_size : None
            Texts take no other value.

        Returns
        -------
        preprocessing : TextPreprocessing
            The same.

        Raises
        ------
        ValueError
            If `image_size` is not None.
        """
        if image_size is None:
            return self
        raise ValueError(
            "`image_size` must be None for a backbone that takes texts. Got "
            f"{image_size!r}; leave it out, or see `max_length` of TextPreprocessing."
        )

    def with_max_length(self, max_length: int) -> Self:
        """Return the preprocessing with another number of tokens per text.

        Parameters
        ----------
        max_length : int
            Most tokens of a text, including special tokens.

        Returns
        -------
        preprocessing : TextPreprocessing
            A copy.

        Raises
        ------
        ValueError
            If it leaves no room for a token, or exceeds the network's positions.
        """
        return dataclasses.replace(self, max_length=max_length)

    def __post_init__(self):
        least = 1 + self.n_special(is_pair=True)
        if self.max_length < least:
            raise ValueError(
                f"`max_length` must be at least {least}, as special tokens count. Got "
                f"{self.max_length}."
            )
        if self.n_positions is not None and self.max_length >= self.n_positions:
            raise ValueError(
                f"`max_length` must be at most {self.n_positions - 1}, as the network "
                f"has {self.n_positions} positions, one of which stays free. Got "
                f"{self.max_length}."
            )

    def example(self, n: int = 2) -> dict[str, torch.Tensor]:
        """Return `n` model inputs of different numbers of tokens.

        Parameters
        ----------
        n : int, default=2
            Number of inputs.

        Returns
        -------
        example : dict of str to Tensor of shape (n, t)
            Token ids, their mask and, if the network takes them, their types.
        """
        known = self._encode(_EXAMPLE).ids or [self.pad_id]
        ids = torch.tensor(known * _EXAMPLE_LENGTH)
        rows = torch.stack([ids[i : i + _EXAMPLE_LENGTH] for i in range(n)])
        lengths = _EXAMPLE_LENGTH - 1 - torch.arange(n) % (_EXAMPLE_LENGTH - 2)
        mask = torch.arange(_EXAMPLE_LENGTH) < lengths[:, None]
        state = {"ids": rows.where(mask, self.pad_id), "mask": mask}
        return state | ({"types": torch.zeros_like(rows)} if self.has_types else {})

    def prepare(self, text: str | tuple[str, str]) -> dict[str, np.ndarray]:
        """Return the padded token ids of a text or a pair, and their mask.

        Parameters
        ----------
        text : str or (str, str)
            A text, or a pair of texts.

        Returns
        -------
        prepared : dict of str to ndarray of shape (t,)
            ``"ids"``, ``"mask"`` and, if the network takes them, ``"types"``.
        """
        encoded = self._joined(*self._encoded_parts(text))
        ids = encoded.ids or [self.pad_id]  # a text without tokens is one of padding
        types = encoded.type_ids or [0]
        length = padded_length(len(ids))
        if self.n_positions is not None:
            length = min(length, self.n_positions)
        prepared = {
            "ids": np.full(length, self.pad_id, np.int64),
            "mask": np.arange(length) < len(ids),
        }
        prepared["ids"][: len(ids)] = ids
        if self.has_types:
            prepared["types"] = np.zeros(length, np.int64)
            prepared["types"][: len(ids)] = types
        return prepared

    def to_input(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return model inputs, which are what `prepare` returns.

        Parameters
        ----------
        batch : dict of str to Tensor of shape (b, t)
            Prepared texts.

        Returns
        -------
        inputs : dict of str to Tensor of shape (b, t)
            The same.
        """
        return batch

    def n_special(self, *, is_pair: bool) -> int:
        """Return the number of special tokens that are added to a text or a pair."""
        return _tokenizer(self.tokenizer).num_special_tokens_to_add(is_pair)

    def separator(self) -> int:
        """Return the token id at the end of a text."""
        return (self._joined(self._encode(_EXAMPLE)).ids or [self.pad_id])[-1]

    def n_tokens(self, text: str | tuple[str, str]) -> int:
        """Return the number of tokens of a text or a pair before it is truncated."""
        parts = self._encoded_parts(text)
        return sum(map(len, parts)) + self.n_special(is_pair=len(parts) == 2)

    def _encoded_parts(self, text):
        """Return the encodings of the texts of a sample, without special tokens."""
        first, *second = (text,) if isinstance(text, str) else text
        return [self._encode(self.prefix + first), *map(self._encode, second)]

    def _encode(self, text):
        return _tokenizer(self.tokenizer).encode(text, add_special_tokens=False)

    def _joined(self, first, second=None):
        """Truncate one or two encodings, and add the special tokens."""
        room = self.max_length - self.n_special(is_pair=second is not None)
        if second is None:
            first.truncate(room)
        else:
            for part, length in zip(
                (first, second), _shares(len(first), len(second), room), strict=True
            ):
                part.truncate(length)
        return _tokenizer(self.tokenizer).post_process(first, second)


def padded_length(n_tokens: int) -> int:
    """Return the length to which so many tokens are padded.

    At least one position is padding: networks of transformers compute in another way,
    with other rounding, if no sample of a batch has any.
    """
    step = next((s for most, s in _STEPS if n_tokens < most), _STEP_BEYOND)
    return (n_tokens // step + 1) * step


def _shares(first, second, room):
    """Return how many tokens of two texts are kept: the longer one is cut first."""
    half = room // 2
    if first + second <= room:
        return first, second
    if first <= half:
        return first, room - first
    if second <= room - half:
        return room - second, second
    return half, room - half


@lru_cache(maxsize=32)
def _tokenizer(content):
    """Return the tokenizer of a ``tokenizer.json``, made once per process."""
    library = import_optional("tokenizers", feature="A backbone of texts", extra="text")
    made = library.Tokenizer.from_str(content)
    made.no_truncation()
    made.no_padding()
    return made


@lru_cache(maxsize=32)
def _digest_of(content):
    return digest(content).hex()
