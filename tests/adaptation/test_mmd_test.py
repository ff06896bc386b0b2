import math

import numpy as np
import pytest
from scipy.stats import kstest

from sktransfer.adaptation import mmd_test

RNG = np.random.RandomState(0)
Z_SOURCE, Z_TARGET = RNG.normal(size=(13, 4)), RNG.normal(0.5, 2, size=(9, 4))


def by_loops(Z_source, Z_target):
    """Compute the unbiased statistic pair by pair, in float64."""
    together = [*Z_source, *Z_target]
    pairs = [(a, b) for i, a in enumerate(together) for b in together[i + 1 :]]
    squares = [math.fsum((a - b) ** 2) for a, b in pairs]
    width = np.median(np.sqrt(squares))

    def mean(first, second, *, same):
        values = [
            math.exp(-math.fsum((a - b) ** 2) / (2 * width**2))
            for i, a in enumerate(first)
            for j, b in enumerate(second)
            if not (same and i == j)
        ]
        return math.fsum(values) / len(values)

    return (
        mean(Z_source, Z_source, same=True)
        + mean(Z_target, Z_target, same=True)
        - 2 * mean(Z_source, Z_target, same=False)
    )


def test_the_statistic_is_the_sum_over_pairs():
    found = mmd_test(Z_SOURCE, Z_TARGET, n_permutations=1).statistic
    # Of 231 pairs the median is one: its square is the median of the squares.
    assert found == pytest.approx(by_loops(Z_SOURCE, Z_TARGET), rel=1e-12)
    swapped = mmd_test(Z_TARGET, Z_SOURCE, n_permutations=1).statistic
    assert found == pytest.approx(swapped, rel=1e-12)


def test_the_statistic_is_unbiased():
    draws = RNG.normal(size=(300, 2, 10, 3))
    found = [mmd_test(*pair, n_permutations=1).statistic for pair in draws]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))
    assert min(found) < 0 < max(found)


def test_p_values_are_uniform_where_nothing_differs():
    draws = RNG.normal(size=(100, 2, 15, 3))
    found = [
        mmd_test(*pair, n_permutations=99, random_state=i).pvalue
        for i, pair in enumerate(draws)
    ]
    assert kstest(found, "uniform").pvalue > 0.05


@pytest.mark.parametrize("n_permutations", [1, 99, 200])
def test_p_value_of_domains_far_apart_is_the_least(n_permutations):
    far = RNG.normal(5, size=(15, 4))
    found = mmd_test(Z_SOURCE, far, n_permutations=n_permutations, random_state=0)
    assert found.pvalue == pytest.approx(1 / (n_permutations + 1))


def test_p_value_is_the_share_of_deals():
    Z = RNG.normal(size=(5, 2))
    few = mmd_test(Z[:3], Z[3:], n_permutations=4000, random_state=0)
    rows = [(i, j) for i in range(5) for j in range(i)]
    every = [by_loops(np.delete(Z, pair, axis=0), Z[list(pair)]) for pair in rows]
    share = np.mean(np.array(every) >= few.statistic - 1e-12)
    assert few.pvalue == pytest.approx(share, abs=0.03)


def test_a_difference_in_spread_alone_is_seen():
    wide = RNG.normal(0, 3, size=(100, 2))
    assert mmd_test(RNG.normal(size=(100, 2)), wide, random_state=0).pvalue < 0.01


def test_equal_rows_are_no_difference():
    found = mmd_test(np.ones((4, 2)), np.ones((3, 2)), random_state=0)
    assert found == (pytest.approx(0), 1)
    most = np.zeros((30, 1))
    most[0] = 1
    assert np.isfinite(mmd_test(most, most, random_state=0).statistic)


def test_random_state_deals():
    first, again, other = (
        mmd_test(Z_SOURCE, Z_TARGET, random_state=seed).pvalue for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("value", [0, 1.5, None])
def test_number_of_permutations_out_of_range(value):
    message = rf"`n_permutations` must be an int of at least 1\. Got {value}\."
    with pytest.raises(ValueError, match=message):
        mmd_test(Z_SOURCE, Z_TARGET, n_permutations=value)
