"""Warning of texts that are longer than a preprocessing keeps."""

from collections import OrderedDict
from typing import Any

from sktransfer.inputs.texts._preprocessing import TextPreprocessing
from sktransfer.inputs.texts._samples import why_unreadable
from sktransfer.utils import warn_caller

_MOST_COUNTED = 100_000
_counted: OrderedDict[tuple, tuple] = OrderedDict()  # of texts that may be long


def warn_of_truncation(items: list, preprocessing: TextPreprocessing) -> None:
    """Warn once of the texts that are cut, with how many there are and how much."""
    counts = [_count(item, preprocessing) for item in items]
    lost = [n_lost for _, n_lost in counts if n_lost]
    if not lost:
        return
    most, n_windows = preprocessing.max_length, preprocessing.max_windows
    limit = f"have more than {most} tokens, which is `max_length`,"
    if n_windows > 1:
        limit = f"do not fit into {n_windows} windows of {most} tokens (`max_windows`),"
    warn_caller(
        f"{len(lost):,} of {len(items):,} texts {limit} and are truncated: "
        f"{sum(lost):,} tokens of them are lost, the longest text has "
        f"{max(n for n, _ in counts):,}. See `max_length` in the user guide."
    )


def _count(item: Any, preprocessing):
    """Return the numbers of tokens of a text and of those lost; 0 and 0 if it fits."""
    if why_unreadable(item) is not None or preprocessing.surely_fits(item):
        return 0, 0
    key = hash(item), len(item), hash(preprocessing)
    if key not in _counted:
        _counted[key] = preprocessing.count(item)
        while len(_counted) > _MOST_COUNTED:
            _counted.popitem(last=False)
    return _counted[key]
