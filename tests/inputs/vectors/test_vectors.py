"""Rows of numbers as samples."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from sktransfer.inputs import MODALITIES, VectorPreprocessing, as_samples
from sktransfer.inputs.vectors._vectors import RawRows


def test_preprocessing_leaves_values():
    preprocessing = VectorPreprocessing(3)
    row = preprocessing.prepare([1.0, 2.0, 3.5])
    assert row.dtype == np.float32 and row.tolist() == [1.0, 2.0, 3.5]
    batch = torch.tensor([[1.0, 2.0, 3.5]], dtype=torch.float64)
    inputs = preprocessing.to_input(batch)
    assert inputs.dtype == torch.float32 and inputs.tolist() == batch.tolist()


def test_preprocessing_shapes():
    preprocessing = VectorPreprocessing(3)
    assert preprocessing.kind == "vector"
    assert preprocessing.input_shape == (3,)
    assert preprocessing.example(4).shape == (4, 3)
    assert preprocessing.key() != VectorPreprocessing(4).key()


def test_with_size():
    preprocessing = VectorPreprocessing(3)
    assert preprocessing.with_size(None) is preprocessing
    with pytest.raises(ValueError, match="`image_size` must be None .*Got 224"):
        preprocessing.with_size(224)


@pytest.mark.parametrize("make", [np.asarray, pd.DataFrame, torch.tensor, list])
def test_samples_are_float32_rows(make):
    X = load_digits().data[:20]
    samples = as_samples(make(X), VectorPreprocessing(64))
    assert len(samples) == 20
    assert samples.labels is None and samples.value_range is None
    assert samples[3].dtype == np.float32
    np.testing.assert_array_equal(samples[3], X[3])
    np.testing.assert_array_equal(samples.rows([5, 6, 8]), X[[5, 6, 8]])


def test_samples_take_keeps_position():
    X = load_digits().data[:20]
    part = as_samples(X, VectorPreprocessing(64)).take([7, 2]).take([1])
    np.testing.assert_array_equal(part[0], X[2])
    assert part.describe(0) == "sample 2"


def test_samples_take_takes_the_digests_along():
    samples = as_samples(load_digits().data[:3], VectorPreprocessing(64))
    assert samples.take([0]).digests is None
    samples.digests = [b"0", b"1", b"2"]
    assert samples.take([2, 0]).take([1]).digests == [b"0"]


def test_digest_differs_between_rows():
    samples = as_samples([[1, 2], [1, 2], [2, 1]], VectorPreprocessing(2))
    assert samples.digest(0) == samples.digest(1) != samples.digest(2)


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 2, 1)])
def test_samples_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"X must have shape \(n, 2\).*Got shape"):
        as_samples(np.zeros(shape), VectorPreprocessing(2))


def test_samples_empty():
    with pytest.raises(ValueError, match="at least 1 sample. Got 0"):
        as_samples(np.zeros((0, 2)), VectorPreprocessing(2))


def test_raw_rows_are_returned_unchanged():
    rows = torch.randn(4, 3)
    raw = MODALITIES["vector"].raw_input(VectorPreprocessing(3))
    assert isinstance(raw, RawRows) and raw.names == ("rows",)
    assert torch.equal(raw(rows), rows) and "n_features=3" in repr(raw)
    example = raw.example(2)
    assert example.shape == (2, 3) and example.dtype == torch.float32
    for shape in [(2, 4), (3,)]:
        message = f"Rows must be a tensor of shape (n, 3). Got shape {shape}."
        with pytest.raises(ValueError, match=re.escape(message)):
            raw(torch.zeros(shape))
