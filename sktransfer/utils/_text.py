"""Text for error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def near_matches(word: str, candidates: Iterable[str], n: int = 3) -> str:
    """Name the candidates that a misspelt word may stand for.

    Parameters
    ----------
    word : str
        What the user wrote.
    candidates : iterable of str
        The valid names.
    n : int, default=3
        How many names to offer at most.

    Returns
    -------
    text : str
        A sentence with a leading space, to be appended to an error message, or the
        empty string where nothing is near.

    Examples
    --------
    >>> from sktransfer.utils import near_matches
    >>> near_matches("layr3", ["stem", "layer3", "head"])
    " Did you mean 'layer3'?"
    >>> near_matches("xyz", ["stem", "layer3", "head"])
    ''
    """
    by_lowercase = {candidate.lower(): candidate for candidate in candidates}
    near = get_close_matches(word.lower(), by_lowercase, n=n)
    if not near:
        return ""
    *others, last = (repr(by_lowercase[name]) for name in near)
    listed = f"{', '.join(others)} or {last}" if others else last
    return f" Did you mean {listed}?"
