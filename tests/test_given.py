import numpy as np
import pytest
from sktransfer._given import check_given, take, warn_of_equal

from sktransfer.activations import digest_samples
from sktransfer.inputs import VectorPreprocessing, as_samples


def test_validation_samples_are_needed_with_their_labels():
    check_given(None, None, None)
    check_given([1], None, [2])
    with pytest.raises(ValueError, match="^`X_val` is needed with `y_val`. Got None.$"):
        check_given(None, [1], None)


def test_taken_samples_keep_their_digests():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    samples = as_samples(rows, VectorPreprocessing(3))
    samples.digests = digest_samples(samples)
    taken = take(samples, [2, 0])
    assert taken.digests == [samples.digests[2], samples.digests[0]]
    assert len(taken) == 2


def test_equal_samples_are_warned_of():
    warn_of_equal([b"a"])
    warn_of_equal([b"a", b"b"])
    with pytest.warns(UserWarning, match="^All 2 samples are equal: there is nothing"):
        warn_of_equal([b"a", b"a"])
