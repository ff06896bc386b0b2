"""The modality of texts: how X is checked and read."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sktransfer.inputs._modality import MODALITIES, Modality, UnreadableSampleError
from sktransfer.inputs._reading import has_no_order, without_pyarrow
from sktransfer.inputs.texts._augment import PRESET, WordDropout
from sktransfer.inputs.texts._preprocessing import TextPreprocessing
from sktransfer.inputs.texts._samples import NOUN, TextSamples, why_unreadable
from sktransfer.inputs.texts._truncation import warn_of_truncation
from sktransfer.utils import validate_data


class RawTokens(nn.Module):
    """Make model inputs of token ids, as a tokenizer returns them with its padding.

    A tokenizer does not compute with tensors, so it is no part of an exported module.
    """

    names = ("input_ids", "attention_mask")

    def __init__(self, preprocessing: TextPreprocessing):
        super().__init__()
        self.preprocessing = preprocessing
        self.separator = preprocessing.separator()
        self.n_free_axes = 1 + len(preprocessing.input_shape["ids"])

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Return the model inputs of token ids (n, t), padded behind the texts.

        Those of texts in windows are of shape (n, w, t). The mask (n, t) is 0 at
        padding; by default, that is where the token ids end with those of padding.
        What follows the first separator has the token type of a second text.
        """
        if attention_mask is None:
            holds = (input_ids != self.preprocessing.pad_id).long()
            attention_mask = holds.flip(-1).cumsum(-1).flip(-1)  # up to the last one
        mask = attention_mask > 0
        state = {"ids": input_ids, "mask": mask}
        if not self.preprocessing.has_types:
            return state
        ends = (input_ids == self.separator).long()
        return state | {"types": ((ends.cumsum(-1) > ends) & mask).long()}

    def example(self, n: int, image_size=None) -> tuple[torch.Tensor, ...]:
        """Return token ids and their mask, whose length depends on `n`.

        `image_size` must be None, as there are no images.
        """
        state = self.preprocessing.with_size(image_size).example(n)
        length = state["ids"].shape[-1] - 2 * (n % 3)
        parts = state["ids"][..., :length], state["mask"][..., :length].long()
        return tuple(part.contiguous() for part in parts)

    def extra_repr(self):
        """Name the settings."""
        return repr(self.preprocessing)


class Texts(Modality):
    """The modality of texts, and of pairs of texts.

    X is a list, an array, a Series or a data frame of one column of strings; pairs are
    tuples of two strings, or the rows of a data frame or an array of two columns.
    """

    noun = NOUN
    options = ()
    default_n_views = 4
    # Means and deviations over eight data sets and numbers of samples, see the user
    # guide. The first level was not measured, and the third on one of them.
    removed_errors = ((0.2, 0.2), (0.2, 0.2), (0.1, 0.1))

    def looks_like(self, X: Any) -> bool:
        """Return False: a list of strings may hold the paths of images as well."""
        return False

    def takes_network(self, module: Any) -> bool:
        """Return whether a network is one of transformers that takes token ids."""
        is_of_library = hasattr(module, "config") and hasattr(module, "main_input_name")
        return is_of_library and module.main_input_name == "input_ids"

    def default_preprocessing(self, module: Any, n_features: int | None) -> Any:
        """Raise a ValueError, as a network does not say what its tokens are."""
        raise ValueError(
            f"{type(module).__name__} does not say which tokenizer its weights expect. "
            "Save both into one folder, `model.save_pretrained(folder)` and "
            "`tokenizer.save_pretrained(folder)`, and pass the folder as `backbone`."
        )

    def set_tags(self, tags: Any, options: dict) -> None:
        """Say that X consists of strings, and may have two columns."""
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True

    def validate(self, estimator: Any, X: Any, *, reset: bool) -> Any:
        """Return X, after a check of the columns if it is a table."""
        if getattr(X, "ndim", None) == 2:
            return validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X

    def validate_with_y(self, estimator: Any, X: Any, y: Any) -> tuple[Any, Any]:
        """Return X as `validate` does, and y unchanged."""
        return self.validate(estimator, X, reset=True), y

    def read(
        self, X: Any, preprocessing: TextPreprocessing, *, on_error: str = "raise"
    ) -> TextSamples:
        """Return X as samples, and warn once of texts that will be truncated."""
        if isinstance(X, TextSamples):
            return X
        items = _items_of(X)
        if on_error == "raise":
            _check_items(items)
        warn_of_truncation(items, preprocessing)
        return TextSamples(items)

    def augmentation(self, augment: Any, preprocessing: Any) -> Any:
        """Return word dropout; raise a ValueError for anything else."""
        if isinstance(augment, WordDropout):
            return augment
        if augment in (PRESET, "auto"):
            return WordDropout()
        raise ValueError(
            f"`augment` must be None, 'auto', {PRESET!r} or a WordDropout(share) for a "
            f"backbone that takes {NOUN}. Got {augment!r}; `augment__activations` is "
            "for any backbone."
        )

    def plain_features(self, options: dict) -> tuple[str, Any]:
        """Return the weighted counts of words and of pairs of words."""
        counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        return "TF-IDF", make_pipeline(FunctionTransformer(_as_documents), counts)

    def examples(self, preprocessing: Any, n: int) -> list[str]:
        """Return the same words in different orders."""
        words = "every stage makes another picture of the same world".split()
        return [" ".join(words[k:] + words[:k]) for k in range(n)]

    def raw_input(self, preprocessing: TextPreprocessing) -> RawTokens:
        """Return the module from token ids to model inputs."""
        return RawTokens(preprocessing)


def _items_of(X):
    """Return the samples as a list of strings or tuples, or whatever X holds."""
    X = without_pyarrow(X)
    is_one = isinstance(X, str | bytes) or not hasattr(X, "__len__")
    if has_no_order(X):
        raise TypeError(
            f"X must be a list of texts, whose order is that of y. Got a "
            f"{type(X).__name__}, which has none; pass a list or a Series."
        )
    if is_one:
        raise TypeError(
            "X must be a list, an array, a Series or a data frame of one column of "
            f"strings. Got {_shortened(X)}; for a single text, pass [text]."
        )
    if isinstance(X, pd.DataFrame) or getattr(X, "ndim", 1) == 2:
        items = _from_columns(X)
    else:
        items = [*(X.tolist() if isinstance(X, np.ndarray) else X)]
    if not items:
        raise ValueError("X must have at least 1 sample. Got 0.")
    pairs = (isinstance(item, list | tuple) and len(item) == 2 for item in items)
    return [
        tuple(item) if is_pair else item
        for item, is_pair in zip(items, pairs, strict=True)
    ]


def _as_documents(X):
    """Return each text, or both texts of a pair, as one string (list)."""
    items = _items_of(X)
    return [" ".join(item) if _is_pair(item) else item for item in items]


def _shortened(X):
    text = repr(X)
    return text if len(text) <= 60 else f"a {type(X).__name__}"


def _from_columns(X):
    rows = np.asarray(X, dtype=object).tolist()
    n_columns = X.shape[1]
    if n_columns not in (1, 2):
        raise ValueError(
            "X must have one column of texts, or two for pairs of texts. Got "
            f"{n_columns} columns; use a ColumnTransformer for several texts."
        )
    return [row[0] for row in rows] if n_columns == 1 else [*map(tuple, rows)]


def _check_items(items):
    for row, item in enumerate(items):
        reason = why_unreadable(item)
        if reason is not None:
            raise UnreadableSampleError(row, None, reason, NOUN)
    kinds = {isinstance(item, tuple) for item in items}
    if len(kinds) > 1:
        row = [isinstance(item, tuple) for item in items].index(not _is_pair(items[0]))
        raise ValueError(
            "X must hold texts, or pairs of texts, and not both. Got a "
            f"{'text' if _is_pair(items[0]) else 'pair'} in sample {row}."
        )


def _is_pair(item):
    return isinstance(item, tuple)


MODALITIES.add_built_in("text", Texts())
