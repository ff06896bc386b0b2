import math

import numpy as np
import pytest
from scipy.stats import kstest

from sktransfer.adaptation import mmd_test, proxy_a_distance

RNG = np.random.RandomState(0)
Z = RNG.normal(size=(60, 5))


def test_distance_of_separable_domains_is_2():
    assert proxy_a_distance(Z, Z + 20, random_state=0) == 2


def test_distance_of_equal_distributions_is_about_0():
    draws = RNG.normal(size=(20, 2, 60, 5))
    found = [proxy_a_distance(*pair, random_state=0) for pair in draws]
    assert np.mean(found) == pytest.approx(0, abs=0.12)
    assert max(found) < 0.6


def test_distance_follows_from_the_error_rate():
    # One feature that is right for 3 samples of 4: an error of 1/4.
    feature = np.tile([1.0, 1.0, 1.0, -1.0], 25)[:, None]
    found = proxy_a_distance(feature, -feature, random_state=0)
    assert found == pytest.approx(2 * (1 - 2 * 0.25))


def test_distance_grows_with_the_shift():
    found = [proxy_a_distance(Z, Z + s, random_state=0) for s in (0, 0.5, 1, 2)]
    assert np.all(np.diff(found) > 0)


def test_sizes_of_the_domains_do_not_matter():
    many = RNG.normal(size=(600, 5))
    found = proxy_a_distance(many, RNG.normal(size=(60, 5)), random_state=0)
    assert abs(found) < 0.3
    assert proxy_a_distance(many, Z + 20, random_state=0) == 2


def test_two_samples_per_domain_are_enough():
    assert proxy_a_distance([[0.0], [0.1]], [[9.0], [9.1]], random_state=0) == 2


def test_random_state_fixes_the_folds():
    first, again, other = (
        proxy_a_distance(Z, Z + 0.5, random_state=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("cv", [1, 2.5, "5"])
def test_folds_out_of_range_raise(cv):
    with pytest.raises(ValueError, match=rf"`cv` must be an int .* 2\. Got {cv!r}\."):
        proxy_a_distance(Z, Z, cv=cv)


@pytest.mark.parametrize("compare", [proxy_a_distance, mmd_test])
class TestFeatures:
    def test_not_finite(self, compare):
        spoilt = Z.copy()
        spoilt[[7, 9], 2] = np.nan, np.inf
        message = (
            r"`Z_target` must be finite\. Got NaN or infinity in 2 of 60 rows, the"
        )
        with pytest.raises(ValueError, match=message + " first is row 7; leave"):
            compare(Z, spoilt)

    def test_too_few_samples(self, compare):
        message = "`Z_source` must have at least 2 samples. Got 1."
        with pytest.raises(ValueError, match=message):
            compare(Z[:1], Z)

    def test_unequal_numbers_of_features(self, compare):
        message = "`Z_source` and `Z_target` must have the same features. Got 5 and 4"
        with pytest.raises(ValueError, match=message):
            compare(Z, Z[:, :4])

    @pytest.mark.parametrize("shape", [(60,), (3, 0), (2, 3, 4)])
    def test_no_table(self, compare, shape):
        message = r"`Z_source` must be of shape \(n_samples, n_features\)\. Got \("
        with pytest.raises(ValueError, match=message):
            compare(np.zeros(shape), Z)


DRAWS = np.random.RandomState(0)
Z_SOURCE, Z_TARGET = DRAWS.normal(size=(13, 4)), DRAWS.normal(0.5, 2, size=(9, 4))


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
    draws = DRAWS.normal(size=(300, 2, 10, 3))
    found = [mmd_test(*pair, n_permutations=1).statistic for pair in draws]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))
    assert min(found) < 0 < max(found)


def test_p_values_are_uniform_where_nothing_differs():
    draws = DRAWS.normal(size=(100, 2, 15, 3))
    found = [
        mmd_test(*pair, n_permutations=99, random_state=i).pvalue
        for i, pair in enumerate(draws)
    ]
    assert kstest(found, "uniform").pvalue > 0.05


@pytest.mark.parametrize("n_permutations", [1, 99, 200])
def test_p_value_of_separable_domains_is_the_minimum(n_permutations):
    far = DRAWS.normal(5, size=(15, 4))
    found = mmd_test(Z_SOURCE, far, n_permutations=n_permutations, random_state=0)
    assert found.pvalue == pytest.approx(1 / (n_permutations + 1))


def test_p_value_is_the_share_of_permutations():
    Z = DRAWS.normal(size=(5, 2))
    few = mmd_test(Z[:3], Z[3:], n_permutations=4000, random_state=0)
    rows = [(i, j) for i in range(5) for j in range(i)]
    every = [by_loops(np.delete(Z, pair, axis=0), Z[list(pair)]) for pair in rows]
    share = np.mean(np.array(every) >= few.statistic - 1e-12)
    assert few.pvalue == pytest.approx(share, abs=0.03)


def test_a_difference_in_spread_alone_is_seen():
    wide = DRAWS.normal(0, 3, size=(100, 2))
    assert mmd_test(DRAWS.normal(size=(100, 2)), wide, random_state=0).pvalue < 0.01


def test_equal_rows_are_no_difference():
    found = mmd_test(np.ones((4, 2)), np.ones((3, 2)), random_state=0)
    assert found == (pytest.approx(0), 1)
    most = np.zeros((30, 1))
    most[0] = 1
    assert np.isfinite(mmd_test(most, most, random_state=0).statistic)


def test_random_state_fixes_the_permutations():
    first, again, other = (
        mmd_test(Z_SOURCE, Z_TARGET, random_state=seed).pvalue for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("value", [0, 1.5, None])
def test_number_of_permutations_out_of_range_raises(value):
    message = rf"`n_permutations` must be an int of at least 1\. Got {value}\."
    with pytest.raises(ValueError, match=message):
        mmd_test(Z_SOURCE, Z_TARGET, n_permutations=value)
