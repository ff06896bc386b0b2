"""Registry of the scores that rate how well frozen features suit a task."""

from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import ArrayLike

from sktransfer.utils import near_matches

_BUILT_IN = ("h_score", "knn", "lda", "leep", "logme", "n_leep")


@dataclass(frozen=True)
class Score:
    """A score and its range of application; see :func:`register_score`."""

    name: str
    function: Callable
    regression: bool = False
    of: str = "features"

    def __call__(self, features: ArrayLike, y: ArrayLike, regression: bool) -> float:
        """Compute the score, for regression if the score applies to it."""
        if regression and self.regression:
            return float(self.function(features, y, regression=True))
        return float(self.function(features, y))


_scores: dict[str, Score] = {}


def register_score(
    name: str, function: Callable, *, regression: bool = False, of: str = "features"
) -> None:
    """Register a transferability score by name, for this process.

    Parameters
    ----------
    name : str
        An identifier. Names of built-in scores, and "auto", are taken; a later score
        replaces an earlier one of its name.
    function : callable
        ``function(features, y)`` gets the features of one stage, a float32 ndarray of
        shape (n_samples, n_features), and the labels, an ndarray of shape (n_samples,);
        it returns a float, and a higher one means features that suit the task better.
    regression : bool, default=False
        Whether ``function(features, y, regression=True)`` scores regression targets and
        multilabel indicators, of shape (n_samples,) or (n_samples, n_outputs).
    of : {"features", "probabilities"}, default="features"
        With "probabilities", the function gets the class probabilities of the
        pretrained classifier instead of features: it scores whole networks, and none
        without a classifier.

    Raises
    ------
    TypeError
        If the function is not callable.
    ValueError
        If the name is not an identifier, or is taken; or `of` is something else.

    See Also
    --------
    BackboneRanker : Takes the name, or the function itself, as `scorer`.
    list_scores : The names of all scores.

    Examples
    --------
    >>> from sktransfer.advice import list_scores, register_score
    >>> def spread(features, y):
    ...     return features.std()
    >>> register_score("spread", spread)
    >>> "spread" in list_scores()
    True
    """
    is_name = isinstance(name, str) and name.isidentifier()
    if not is_name or name == "auto" or (name in _BUILT_IN and name in _scores):
        raise ValueError(
            "`name` must be an identifier other than 'auto' and the built-in "
            f"{list(_BUILT_IN)}. Got {name!r}."
        )
    if not callable(function):
        raise TypeError(
            f"`function` must be a callable of features and y. Got {function!r}."
        )
    if of not in ("features", "probabilities"):
        raise ValueError(f"`of` must be 'features' or 'probabilities'. Got {of!r}.")
    _scores[name] = Score(name, function, regression, of)


def list_scores() -> list[str]:
    """Return the names of the registered scores.

    Returns
    -------
    list of str
        Sorted.

    See Also
    --------
    register_score : Adds a score.

    Examples
    --------
    >>> from sktransfer.advice import list_scores
    >>> {"lda", "logme"} <= {*list_scores()}
    True
    """
    return sorted(_scores)


def find_score(scorer: str | Callable, regression: bool) -> Score:
    """Return the score for a ranker's `scorer`, checked to apply to the targets.

    With `regression`, these are regression targets or multilabel indicators.
    """
    if callable(scorer):
        return Score(getattr(scorer, "__name__", ""), scorer)
    if scorer == "auto":
        scorer = "knn" if regression else "lda"
    if scorer not in _scores:
        raise ValueError(
            f"`scorer` must be 'auto', one of {list_scores()} or a callable. Got "
            f"{scorer!r}.{near_matches(scorer, list_scores())}"
        )
    if regression and not _scores[scorer].regression:
        fit = [name for name in list_scores() if _scores[name].regression]
        raise ValueError(
            f"`scorer` must be one of {fit} or a callable for regression targets and "
            f"multilabel y. Got {scorer!r}; for classes, pass one column of labels and "
            "task='classification'."
        )
    return _scores[scorer]
