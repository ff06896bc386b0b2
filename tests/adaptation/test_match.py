import numpy as np
import pytest

from sktransfer.adaptation._match import match_moments, match_quantiles

VALUES = np.random.RandomState(0).normal(50, 10, (30, 40))


def test_match_moments():
    found = match_moments(VALUES, 20, 4)
    assert (found.mean(), found.std()) == (pytest.approx(20), pytest.approx(4))
    assert np.corrcoef(found.ravel(), VALUES.ravel())[0, 1] == pytest.approx(1)


def test_match_moments_of_its_own_is_the_identity():
    found = match_moments(VALUES, VALUES.mean(), VALUES.std())
    np.testing.assert_allclose(found, VALUES)


def test_match_moments_to_a_part_of_the_spread():
    own = VALUES.std()
    found = match_moments(VALUES, 0, 6, own_std=own / 2)
    assert found.std() == pytest.approx(12)


def test_flat_channels_are_shifted_and_nearly_flat_ones_not_blown_up():
    np.testing.assert_array_equal(match_moments(np.full((2, 2), 3.0), 9, 5), 9)
    nearly = match_moments(VALUES / 1000, 0, 10)
    assert nearly.std() == pytest.approx(5 * VALUES.std() / 1000)


def test_match_quantiles_gives_the_other_distribution_in_the_same_order():
    other = np.random.RandomState(1).gamma(2, 10, 2000)
    found = match_quantiles(VALUES, np.quantile(other, np.linspace(0, 1, 33)))
    at = [0.1, 0.5, 0.9]
    np.testing.assert_allclose(
        np.quantile(found, at), np.quantile(other, at), rtol=0.02
    )
    assert np.all(np.diff(found.ravel()[VALUES.ravel().argsort()]) >= 0)


def test_match_quantiles_of_its_own_is_the_identity():
    own = np.quantile(VALUES, np.linspace(0, 1, 33))
    np.testing.assert_allclose(match_quantiles(VALUES, own), VALUES)


def test_values_that_are_many_get_the_mean_of_what_they_become():
    values = np.repeat([0.0, 7.0], [75, 25]).reshape(10, 10)
    found = match_quantiles(values, np.linspace(0, 100, 101))
    assert np.unique(found).size == 2
    assert found.mean() == pytest.approx(50, abs=1)
