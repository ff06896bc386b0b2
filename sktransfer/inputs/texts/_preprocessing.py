"""Preprocessing of texts: tokens, their truncation, and padding."""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from numbers import Integral
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from sktransfer.inputs._preprocessing import WithoutImageSize
from sktransfer.inputs.texts._samples import NOUN
from sktransfer.utils import digest, import_optional

# Lengths that texts are padded to: (up to this many tokens, the step between lengths).
_STEPS = ((32, 4), (64, 8), (256, 16))
_STEP_BEYOND = 32
_EXAMPLE_LENGTH = 16
_EXAMPLE = "The quick brown fox jumps over the lazy dog while 12 others watch it. "
# Normalizers that leave no ASCII text longer than it was, by their types.
_NOT_LONGER = {
    *("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt"),
    *("Precompiled", "Strip", "StripAccents"),
}
_MOST_ADDED = 3  # bytes that a pre-tokenizer puts in front of a text


@dataclass(frozen=True)
class TextPreprocessing(WithoutImageSize):
    """Preprocessing of texts, or of pairs of texts, to token ids.

    A text becomes the token ids of a tokenizer, including its special tokens. Longer
    texts are truncated to `max_length` tokens; of a pair, the longer text is shortened
    first. The ids are padded at the end to a length that depends on their number alone,
    such as the next multiple of 4, and a mask says which positions hold tokens.

    With `max_windows`, a longer text is read in several windows, each with special
    tokens of its own. No token attends to those of other windows, and the features are
    the average over all windows. Of a pair, the windows slide over the longer text,
    beside the beginning of the other one.

    Parameters
    ----------
    tokenizer : str
        The content of a ``tokenizer.json``, the format of the library tokenizers.
    max_length : int
        Most tokens of a text, or of each of its windows, including special tokens.
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
    max_windows : int, default=1
        Most windows of a text; what follows them is cut off.
    overlap : int, default=0
        Number of tokens that a window shares with the one before it.

    Raises
    ------
    ValueError
        If `max_length` leaves no room for a token, or exceeds the positions, or if
        there are no such windows.

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
    max_windows: int = 1
    overlap: int = 0

    kind: ClassVar[str] = "text"
    noun: ClassVar[str] = NOUN
    prepared_shape: ClassVar[None] = None
    is_costly_to_read: ClassVar[bool] = False
    shape_hint: ClassVar[str] = "It must take token ids and their mask."

    @property
    def input_shape(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one model input; those of others differ in their length."""
        shape = (_EXAMPLE_LENGTH,) if self.max_windows == 1 else (2, _EXAMPLE_LENGTH)
        return dict.fromkeys(self._names, shape)

    @property
    def _names(self):
        return ("ids", "mask", "types") if self.has_types else ("ids", "mask")

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        parts = self._tokenizer_digest, self.max_length, self.pad_id, self.has_types
        rest = self.prefix, self.n_positions, self.max_windows, self.overlap
        return f"text-v2;{parts!r};{rest!r};tokenizers={version('tokenizers')}"

    @property
    def _tokenizer_digest(self):
        return _digest_of(self.tokenizer)

    def __post_init__(self):
        for name in ("max_length", "max_windows", "overlap"):
            if not isinstance(getattr(self, name), Integral):
                raise ValueError(
                    f"`{name}` must be an int. Got {getattr(self, name)!r}."
                )
        special = self.n_special(is_pair=True)
        if self.max_length <= special:
            raise ValueError(
                f"`max_length` must be at least {special + 1}, as special tokens "
                f"count. Got {self.max_length}."
            )
        if self.n_positions is not None and self.max_length >= self.n_positions:
            raise ValueError(
                f"`max_length` must be at most {self.n_positions - 1}, as the network "
                f"has {self.n_positions} positions, one of which stays free. Got "
                f"{self.max_length}."
            )
        self._check_windows()

    def _check_windows(self):
        if self.max_windows < 1:
            raise ValueError(
                f"`max_windows` must be at least 1. Got {self.max_windows}."
            )
        room = self._room(is_pair=False)
        most = room - 1 if self.max_windows > 1 else 0
        if not 0 <= self.overlap <= most:
            why = (
                f"a window has room for {room} tokens" if most else "there is 1 window"
            )
            raise ValueError(
                f"`overlap` must be between 0 and {most}, as {why}. Got {self.overlap}."
            )

    def example(self, n: int = 2) -> dict[str, torch.Tensor]:
        """Return `n` model inputs of different numbers of tokens.

        Parameters
        ----------
        n : int, default=2
            Number of inputs.

        Returns
        -------
        example : dict of str to Tensor of shape (n, t) or (n, w, t)
            Token ids, their mask and, if the network takes them, their types.
        """
        n_windows = 1 if self.max_windows == 1 else 2
        known = self._encode(_EXAMPLE).ids or [self.pad_id]
        ids = torch.tensor(known * _EXAMPLE_LENGTH)
        rows = torch.stack([ids[i : i + _EXAMPLE_LENGTH] for i in range(n * n_windows)])
        lengths = _EXAMPLE_LENGTH - 1 - torch.arange(len(rows)) % (_EXAMPLE_LENGTH - 2)
        mask = torch.arange(_EXAMPLE_LENGTH) < lengths[:, None]
        state = {"ids": rows.where(mask, self.pad_id), "mask": mask}
        state |= {"types": torch.zeros_like(rows)} if self.has_types else {}
        if n_windows == 1:
            return state
        return {name: part.unflatten(0, (n, n_windows)) for name, part in state.items()}

    def prepare(self, text: str | tuple[str, str]) -> dict[str, np.ndarray]:
        """Return the padded token ids of a text or a pair, and their mask.

        Parameters
        ----------
        text : str or (str, str)
            A text, or a pair of texts.

        Returns
        -------
        prepared : dict of str to ndarray of shape (t,), or (w, t) with `max_windows`
            ``"ids"``, ``"mask"`` and, if the network takes them, ``"types"``.
        """
        windows = self._windows(text)
        length = padded_length(max(1, *map(len, windows)))
        if self.n_positions is not None:
            length = min(length, self.n_positions)
        rows = [self._padded(window, length) for window in windows]
        if self.max_windows == 1:
            return rows[0]
        return {name: np.stack([row[name] for row in rows]) for name in self._names}

    def _padded(self, window, length):
        """Return the padded ids of an encoding, and their mask, as arrays."""
        ids = window.ids or [self.pad_id]  # a text without tokens is one of padding
        padded = {
            "ids": np.full(length, self.pad_id, np.int64),
            "mask": np.arange(length) < len(ids),
        }
        padded["ids"][: len(ids)] = ids
        if self.has_types:
            padded["types"] = np.zeros(length, np.int64)
            padded["types"][: len(ids)] = window.type_ids or [0]
        return padded

    def _windows(self, text):
        """Return the encodings of the windows of a text or a pair, truncated."""
        parts = self._encoded_parts(text)
        plan = self._plan([*map(len, parts)])
        for part, share in zip(parts, plan.shares, strict=True):
            is_read_in_windows = part is parts[plan.longest]
            part.truncate(share, stride=plan.overlap if is_read_in_windows else 0)
        longest = parts[plan.longest]
        finish, windows = _tokenizer(self.tokenizer).post_process, []
        for piece in [longest, *longest.overflowing][: self.max_windows]:
            parts[plan.longest] = piece
            windows.append(finish(*parts))
        return windows

    def _plan(self, lengths):
        """Return how the texts of a sample are divided, by their lengths (_Plan)."""
        room = self._room(is_pair=len(lengths) == 2)
        shares = _shares(*lengths, room) if len(lengths) == 2 else [min(*lengths, room)]
        longest = int(np.argmax(lengths))
        return _Plan(shares, longest, max(0, min(self.overlap, shares[longest] - 1)))

    def _room(self, *, is_pair):
        return self.max_length - self.n_special(is_pair=is_pair)

    def count(self, text: str | tuple[str, str]) -> tuple[int, int]:
        """Return the number of tokens of a text or a pair, and how many are cut off.

        Parameters
        ----------
        text : str or (str, str)
            A text, or a pair of texts.

        Returns
        -------
        n_tokens, n_lost : int
            The first one includes special tokens.
        """
        lengths = [*map(len, self._encoded_parts(text))]
        plan = self._plan(lengths)
        cut = np.subtract(lengths, plan.shares)  # from the first window
        step = plan.shares[plan.longest] - plan.overlap
        cut[plan.longest] = max(0, cut[plan.longest] - (self.max_windows - 1) * step)
        n_tokens = sum(lengths) + self.n_special(is_pair=len(lengths) == 2)
        return n_tokens, int(cut.sum())

    def surely_fits(self, text: str | tuple[str, str]) -> bool:
        """Return whether a text or a pair is short enough that none need count tokens.

        A token holds at least one byte of the text after its normalization, which may
        lengthen texts beyond ASCII: NFKC makes 18 characters of U+FDFA.
        """
        parts = [self.prefix, *([text] if isinstance(text, str) else text)]
        if not (all(map(str.isascii, parts)) and _keeps_ascii(self.tokenizer)):
            return False
        n_most = sum(map(len, parts)) + _MOST_ADDED * (len(parts) - 1)
        return n_most <= self._room(is_pair=len(parts) == 3)

    def n_special(self, *, is_pair: bool) -> int:
        """Return the number of special tokens that are added to a text or a pair."""
        return _tokenizer(self.tokenizer).num_special_tokens_to_add(is_pair)

    def separator(self) -> int:
        """Return the token id at the end of a text."""
        (window, *_) = self._windows(_EXAMPLE)
        return (window.ids or [self.pad_id])[-1]

    def tokens(self, text: str | tuple[str, str]) -> list[str]:
        """Return the tokens of a text or a pair, without padding.

        Parameters
        ----------
        text : str or (str, str)
            A text, or a pair of texts.

        Returns
        -------
        tokens : list of str
            One per position of the first window that `prepare` returns, with special
            tokens.
        """
        (window, *_) = self._windows(text)
        return window.tokens or [""]  # a text without tokens is one of padding

    def is_special(self, text: str | tuple[str, str]) -> list[bool]:
        """Return which of the `tokens` of a text or a pair the tokenizer added to it.

        Parameters
        ----------
        text : str or (str, str)
            A text, or a pair of texts.

        Returns
        -------
        is_special : list of bool
            One per token. Tokens of the prefix are no special tokens.
        """
        (window, *_) = self._windows(text)
        return [*map(bool, window.special_tokens_mask or [0])]

    def _encoded_parts(self, text):
        """Return the encodings of the texts of a sample, without special tokens."""
        first, *second = (text,) if isinstance(text, str) else text
        return [self._encode(self.prefix + first), *map(self._encode, second)]

    def _encode(self, text):
        return _tokenizer(self.tokenizer).encode(text, add_special_tokens=False)


class _Plan(NamedTuple):
    """How many tokens of each text a window has, and which text has windows."""

    shares: list
    longest: int
    overlap: int


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
        return [first, second]
    if first <= half:
        return [first, room - first]
    if second <= room - half:
        return [room - second, second]
    return [half, room - half]


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


@lru_cache(maxsize=32)
def _keeps_ascii(content):
    """Return whether the normalizer of a tokenizer leaves no ASCII text longer."""
    normalizer = _tokenizer(content).normalizer
    if normalizer is None:
        return True
    state = json.loads(normalizer.__getstate__())
    parts = state.get("normalizers", [state])
    return {part["type"] for part in parts} <= _NOT_LONGER
