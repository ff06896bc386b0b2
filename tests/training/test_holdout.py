import numpy as np
import pytest

from sktransfer.training import hold_out

CODES = np.repeat([0, 1, 2, 3], [50, 20, 3, 1])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_every_class_stays_in_training(fraction, seed):
    held = hold_out(CODES, fraction, seed)
    rest = np.setdiff1d(np.arange(len(CODES)), held)
    assert len(held) >= 1
    assert {*CODES[rest]} == {0, 1, 2, 3}


def test_share_is_of_each_class():
    held = hold_out(CODES, 0.3, 0)
    assert np.bincount(CODES[held], minlength=4).tolist() == [15, 6, 1, 0]
    assert len({*held}) == len(held) and np.all(np.diff(held) > 0)


def test_share_goes_by_the_class_and_not_by_the_place():
    order = np.random.RandomState(0).permutation(len(CODES))
    held = hold_out(CODES[order], 0.3, 0)
    assert np.bincount(CODES[order][held], minlength=4).tolist() == [15, 6, 1, 0]


def test_samples_without_classes_are_one_group():
    assert len(hold_out(np.zeros(40, dtype=int), 0.1, 0)) == 4


def test_seed_fixes_the_choice():
    first, again, other = (hold_out(CODES, 0.2, seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_each_sample_is_held_out_by_some_seed():
    held = [hold_out(np.zeros(10, dtype=int), 0.2, seed) for seed in range(100)]
    assert {*np.concatenate(held)} == {*range(10)}


def test_one_sample_of_the_largest_class_where_shares_round_to_none():
    codes = np.repeat([0, 1, 2], [2, 4, 1])
    held = hold_out(codes, 0.05, 0)
    assert codes[held].tolist() == [1]


def test_classes_of_few_samples_give_a_share_together():
    codes = np.repeat(np.arange(100), 4)
    held = hold_out(codes, 0.1, 0)
    assert len(held) == 40
    assert np.bincount(codes[held]).max() == 1


def test_two_samples_of_a_class_are_enough():
    held = hold_out(np.array([0, 1, 1]), 0.1, 0)
    assert held.tolist() in ([1], [2])


def test_classes_of_one_sample():
    message = (
        "^`early_stopping` needs a class with two samples to hold one out. Give "
        "`X_val` and `y_val` to `fit`, or set `early_stopping=False`.$"
    )
    with pytest.raises(ValueError, match=message):
        hold_out(np.arange(5), 0.1, 0)
