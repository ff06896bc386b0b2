import numpy as np
import pytest

from sktransfer.adaptation import mmd_test, proxy_a_distance

RNG = np.random.RandomState(0)
Z = RNG.normal(size=(60, 5))


def test_domains_far_apart_have_2():
    assert proxy_a_distance(Z, Z + 20, random_state=0) == 2


def test_the_same_distribution_has_about_0():
    draws = RNG.normal(size=(20, 2, 60, 5))
    found = [proxy_a_distance(*pair, random_state=0) for pair in draws]
    assert np.mean(found) == pytest.approx(0, abs=0.12)
    assert max(found) < 0.6


def test_it_is_what_the_errors_say():
    # One feature that is right for 3 samples of 4: an error of 1/4.
    feature = np.tile([1.0, 1.0, 1.0, -1.0], 25)[:, None]
    found = proxy_a_distance(feature, -feature, random_state=0)
    assert found == pytest.approx(2 * (1 - 2 * 0.25))


def test_a_larger_shift_is_a_larger_distance():
    found = [proxy_a_distance(Z, Z + s, random_state=0) for s in (0, 0.5, 1, 2)]
    assert np.all(np.diff(found) > 0)


def test_sizes_of_the_domains_do_not_matter():
    many = RNG.normal(size=(600, 5))
    found = proxy_a_distance(many, RNG.normal(size=(60, 5)), random_state=0)
    assert abs(found) < 0.3
    assert proxy_a_distance(many, Z + 20, random_state=0) == 2


def test_two_samples_a_domain_are_enough():
    assert proxy_a_distance([[0.0], [0.1]], [[9.0], [9.1]], random_state=0) == 2


def test_random_state_fixes_the_folds():
    first, again, other = (
        proxy_a_distance(Z, Z + 0.5, random_state=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("cv", [1, 2.5, "5"])
def test_folds_out_of_range(cv):
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
