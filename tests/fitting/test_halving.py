import numpy as np
import pandas as pd
import pytest

from sktransfer.fitting import Evaluation, evaluate_candidates, order, search_results

NAN = float("nan")


def recorded(scores, n_trainable=None):
    """Return a function that evaluates by a table, and the pairs it was asked for."""
    asked = []
    n_trainable = n_trainable or [1] * len(scores)

    def evaluate(pairs):
        asked.extend(pairs)
        return [
            Evaluation(scores[i][fold], 1.0, 0.5, n_trainable[i]) for i, fold in pairs
        ]

    return evaluate, asked


def run(scores, *, halving=True, precedence=None, n_trainable=None):
    evaluate, asked = recorded(scores, n_trainable)
    precedence = precedence or [*range(len(scores))]
    found = evaluate_candidates(
        len(scores), len(scores[0]), evaluate, precedence, halving=halving
    )
    return found, asked


@pytest.mark.parametrize(
    ("n_candidates", "counts"),
    [(1, [1]), (2, [2, 2]), (3, [3, 2]), (5, [5, 2]), (9, [9, 3]), (10, [10, 4, 2])],
)
def test_the_best_third_remain_after_each_fold(n_candidates, counts):
    scores = [[i / 10] * 5 for i in range(n_candidates)]
    found, asked = run(scores)
    assert [sum(fold == f for _, fold in asked) for f in range(len(counts))] == counts
    assert len(asked) == sum(counts)
    assert len(found[-1]) == len(counts)  # the best one is never dropped


def test_all_candidates_remain_without_halving():
    found, asked = run([[0.1, 0.9], [0.5, 0.5], [0.9, 0.9]], halving=False)
    assert asked == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert [e.score for e in found[0]] == [0.1, 0.9]


def test_means_over_all_folds_so_far_decide():
    scores = [[0.9, 0.1], [0.8, 0.8], [0.1, 1.0]]
    found, _ = run(scores)
    assert [*map(len, found)] == [2, 2, 1]
    assert order(found, range(3)) == [1, 0, 2]


def test_a_candidate_of_more_folds_is_better_whatever_the_score():
    found, _ = run([[0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.4, 1.0, 1.0]])
    assert order(found, range(3))[-1] == 2


def test_fewer_trained_parameters_decide_between_equal_scores():
    scores = [[0.5, 0.5]] * 4
    found, _ = run(scores, halving=False, n_trainable=[30, 10, 20, 10])
    assert order(found, [0, 2, 0, 1]) == [3, 1, 2, 0]


def test_a_score_of_nan_is_the_worst():
    found, _ = run([[NAN, NAN], [-5.0, -5.0], [NAN, 1.0]], halving=False)
    assert order(found, range(3))[0] == 1


def test_the_order_of_the_candidates_has_no_influence():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (7, 4)) / 4  # with ties
    sizes = [3, 1, 2, 3, 1, 2, 1]
    chosen = set()
    for _ in range(10):
        mixed = rng.permutation(7)
        found, _ = run(
            scores[mixed].tolist(),
            precedence=mixed.tolist(),
            n_trainable=[sizes[i] for i in mixed],
        )
        chosen.add(int(mixed[order(found, mixed.tolist())[0]]))
    assert len(chosen) == 1


def test_results_are_a_table_as_that_of_a_grid_search():
    candidates = [{"freeze": 1}, {"freeze": "all", "C": 2.0}, {"freeze": 2}]
    found, _ = run([[0.5, 1.0], [1.0, 0.5], [0.1, 0.1]])
    table = search_results(candidates, found)
    frame = pd.DataFrame(table)
    assert frame["params"].tolist() == candidates
    assert frame["mean_test_score"].tolist() == [0.75, 0.75, 0.1]
    assert frame["std_test_score"].tolist() == [0.25, 0.25, 0.0]
    assert frame["rank_test_score"].tolist() == [1, 1, 3]
    assert frame["n_folds"].tolist() == [2, 2, 1]
    assert np.isnan(table["split1_test_score"][2])
    assert table["param_C"].mask.tolist() == [True, False, True]
    assert frame["mean_fit_time"].tolist() == [1.0] * 3
    assert frame["mean_score_time"].tolist() == [0.5] * 3
