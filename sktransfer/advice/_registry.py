"""Registry of the scores that rate how well features suit a task."""

from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import ArrayLike

from sktransfer.utils import Registry, check_callable


@dataclass(frozen=True)
class Score:
    """A score and the targets it applies to; see :func:`register_score`."""

    name: str
    function: Callable
    regression: bool = False
    of: str = "features"

    def __call__(self, features: ArrayLike, y: ArrayLike, regression: bool) -> float:
        """Compute the score; `regression` is passed on if the score accepts it."""
        if regression and self.regression:
            return float(self.function(features, y, regression=True))
        return float(self.function(features, y))


def _check_score(score):
    check_callable(score.function, "function", "function(features, y)")
    if score.of not in ("features", "probabilities"):
        raise ValueError(
            f"`of` must be 'features' or 'probabilities'. Got {score.of!r}."
        )


SCORES: Registry[Score] = Registry(
    "scores",
    "`scorer` must be 'auto', one of {names} or a callable",
    _check_score,
    reserved=["auto"],
)


def register_score(
    name: str, function: Callable, *, regression: bool = False, of: str = "features"
) -> None:
    """Register a transferability score by name, for this process.

    Parameters
    ----------
    name : str
        The value of the parameter `scorer`, an identifier. "auto" and the names of
        built-in scores are taken; any other score of the same name is replaced.
    function : callable
        ``function(features, y)`` gets the features of one stage, a float32 ndarray of
        shape (n_samples, n_features), and the labels, an ndarray of shape (n_samples,).
        It returns a float; higher scores mean that the features suit the task better.
    regression : bool, default=False
        Whether ``function(features, y, regression=True)`` scores regression targets and
        multilabel indicators, of shape (n_samples,) or (n_samples, n_outputs).
    of : {"features", "probabilities"}, default="features"
        What the function is called with. With "probabilities", it gets the class
        probabilities of the pretrained classifier, so it scores whole networks, and
        only those with a classifier.

    Raises
    ------
    TypeError
        If the function is not callable.
    ValueError
        If the name is not an identifier or is taken, or `of` is unknown.

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
    SCORES.register(name, Score(name, function, regression, of))


def list_scores() -> list[str]:
    """Return the names of the registered scores.

    Returns
    -------
    list of str

    See Also
    --------
    register_score : Adds a score.

    Examples
    --------
    >>> from sktransfer.advice import list_scores
    >>> {"lda", "logme"} <= {*list_scores()}
    True
    """
    return list(SCORES)


def find_score(scorer: str | Callable, regression: bool) -> Score:
    """Return the score for a value of `scorer`; an error if it does not apply to y.

    With `regression`, y holds regression targets or multilabel indicators.
    """
    if callable(scorer):
        return Score(getattr(scorer, "__name__", ""), scorer)
    if scorer == "auto":
        scorer = "knn" if regression else "lda"
    score = SCORES[scorer]
    if regression and not score.regression:
        fit = [name for name in SCORES if SCORES[name].regression]
        raise ValueError(
            f"`scorer` must be one of {fit} or a callable for regression targets and "
            f"multilabel y. Got {scorer!r}; for classes, pass one column of labels and "
            "task='classification'."
        )
    return score
