"""Random views of texts: word dropout."""

import re
from dataclasses import dataclass

import torch

PRESET = "word_dropout"
_WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True)
class WordDropout:
    """Random views of texts in which some words are left out.

    Each word is left out with the same probability, and at least one word is kept.
    Words are what white space separates; of a pair, both texts lose words. It is passed
    as `augment`, or as the ``views`` of :class:`~sktransfer.Augmentation`.

    Parameters
    ----------
    share : float, default=0.1
        Probability with which a word is left out, between 0 and 1.

    Raises
    ------
    ValueError
        If `share` is not between 0 and 1.

    References
    ----------
    M. Iyyer et al. (2015). Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification. https://aclanthology.org/P15-1162

    Examples
    --------
    >>> from sktransfer import FineTunedClassifier
    >>> from sktransfer.inputs import WordDropout
    >>> model = FineTunedClassifier("minilm", augment=WordDropout(0.2))
    """

    share: float = 0.1

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise ValueError(
                f"`share` must be between 0 and 1, both excluded. Got {self.share!r}."
            )

    def __call__(self, text: str | tuple[str, str]) -> str | tuple[str, str]:
        """Return a view of a text or a pair, drawn from torch's global generator.

        Parameters
        ----------
        text : str or (str, str)
            A text, or a pair of texts.

        Returns
        -------
        view : str or (str, str)
            As `text`, with fewer words.
        """
        if isinstance(text, str):
            return self._view(text)
        return tuple(map(self._view, text))

    def _view(self, text):
        words = _WORD.findall(text)
        drawn = torch.rand(len(words), dtype=torch.float64).tolist()
        if not drawn or min(drawn) >= self.share:
            return text
        least = min(self.share, max(drawn))  # the word that is kept if all are below
        kept = [
            word for word, value in zip(words, drawn, strict=True) if value >= least
        ]
        return "".join(kept).rstrip()
