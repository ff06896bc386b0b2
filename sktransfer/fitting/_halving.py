"""Cross-validation of candidates, of which the worse ones are dropped after each fold.

It is successive halving [1]_, as in scikit-learn's ``HalvingGridSearchCV``, with folds
as the resource. A score thus never belongs to a smaller training than that of a grid
search: it is the same number, or it is missing.

References
----------
.. [1] Jamieson and Talwalkar, 2016, "Non-stochastic best arm identification and
   hyperparameter optimization", https://arxiv.org/abs/1502.07943
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_FACTOR = 3  # as in scikit-learn: of so many candidates, one remains
_FEWEST_FOLDS = 2  # that choose between the last two candidates


class Evaluation(NamedTuple):
    """Result of a candidate in a fold.

    Attributes
    ----------
    score : float
        The higher, the better.
    fit_time, score_time : float
        In seconds.
    n_trainable : int
        Number of trained parameters.
    """

    score: float
    fit_time: float
    score_time: float
    n_trainable: int


def evaluate_candidates(
    n_candidates: int,
    n_folds: int,
    evaluate: Callable[[Sequence[tuple[int, int]]], list[Evaluation]],
    precedence: Sequence,
    *,
    halving: bool,
) -> list[list[Evaluation]]:
    """Score candidates in one fold after the other; return a list per candidate.

    Parameters
    ----------
    n_candidates, n_folds : int
    evaluate : callable
        Maps pairs of a candidate and a fold to their evaluations.
    precedence : sequence of length n_candidates
        Sorts candidates with equal scores and equally many trained parameters.
    halving : bool
        Whether only the best third remain after each fold (rounded up), and at least
        two until the second fold. No folds follow once a single candidate remains.
        Otherwise all candidates are scored in all folds.
    """
    results: list[list[Evaluation]] = [[] for _ in range(n_candidates)]
    remaining = [*range(n_candidates)]
    for fold in range(n_folds):
        found = evaluate([(candidate, fold) for candidate in remaining])
        for candidate, evaluation in zip(remaining, found, strict=True):
            results[candidate].append(evaluation)
        if halving:
            n_kept = max(-(-len(remaining) // _FACTOR), _fewest(fold + 1))
            ranked = [i for i in order(results, precedence) if i in remaining]
            remaining = sorted(ranked[:n_kept])
            if len(remaining) == 1:
                break
    return results


def _fewest(n_folds):
    return 2 if n_folds < _FEWEST_FOLDS else 1


def order(results: Sequence[Sequence[Evaluation]], precedence: Sequence) -> list[int]:
    """Return the positions of candidates from the best to the worst.

    Those that remained for more folds come first, and then those with a higher mean
    score. Of equal scores, the one with fewer trained parameters is better. The order
    of the candidates has no influence.
    """

    def key(i):
        n_trained = max(e.n_trainable for e in results[i])
        return _merit(results[i]), n_trained, precedence[i]

    return sorted(range(len(results)), key=key)


def _merit(evaluations):
    """Return a key that is lower for a better candidate; NaN is worst."""
    mean = np.mean([e.score for e in evaluations])
    return -len(evaluations), bool(np.isnan(mean)), -np.nan_to_num(mean)


def search_results(
    candidates: Sequence[Mapping[str, Any]],
    results: Sequence[Sequence[Evaluation]],
) -> dict[str, Any]:
    """Return a table as ``cv_results_`` of scikit-learn's searches (dict of arrays).

    Scores of folds in which a candidate was not trained are NaN; means and standard
    deviations are those of the others, whose number is ``n_folds``.
    """
    table: dict[str, Any] = {}
    for name in ("fit_time", "score_time"):
        values = [[getattr(e, name) for e in of_candidate] for of_candidate in results]
        table |= _moments(name, values)
    for name in sorted({name for candidate in candidates for name in candidate}):
        column = np.ma.masked_all(len(candidates), dtype=object)
        for i, candidate in enumerate(candidates):
            if name in candidate:
                column[i] = candidate[name]
        table[f"param_{name}"] = column
    table["params"] = [*map(dict, candidates)]
    scores = [[e.score for e in of_candidate] for of_candidate in results]
    for fold in range(max(map(len, scores))):
        column = [s[fold] if fold < len(s) else np.nan for s in scores]
        table[f"split{fold}_test_score"] = np.array(column)
    table |= _moments("test_score", scores)
    merits = [_merit(of_candidate) for of_candidate in results]
    ranks = [1 + sum(other < merit for other in merits) for merit in merits]
    table["rank_test_score"] = np.array(ranks, dtype=np.int32)
    table["n_folds"] = np.array([*map(len, scores)])
    return table


def _moments(name, values):
    """Return means and standard deviations of lists of different lengths."""
    return {
        f"mean_{name}": np.array([np.mean(v) for v in values]),
        f"std_{name}": np.array([np.std(v) for v in values]),
    }
