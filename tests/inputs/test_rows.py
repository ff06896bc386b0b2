"""Rows of any X."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.sparse import coo_array, csr_array

from sktransfer.inputs import labels_of, select_rows

ROWS = np.arange(12).reshape(4, 3)


@pytest.mark.parametrize(
    "X",
    [ROWS, pd.DataFrame(ROWS), ROWS.tolist(), torch.tensor(ROWS), csr_array(ROWS)],
    ids=lambda X: type(X).__name__,
)
@pytest.mark.parametrize("rows", [[1, 2], [0, 3], [1, 3, 2], [1, 0, 3, 2], []], ids=str)
def test_rows_of_any_type(X, rows):
    found = select_rows(X, np.array(rows, dtype=int))
    assert type(found) is type(X)
    dense = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
    np.testing.assert_array_equal(dense.reshape(-1, 3), ROWS[rows])


def test_rows_of_a_sparse_format_without_an_index():
    found = select_rows(coo_array(ROWS), np.array([1, 3]))
    np.testing.assert_array_equal(found.toarray(), ROWS[[1, 3]])


def test_consecutive_rows_are_not_copied():
    assert np.shares_memory(select_rows(ROWS, np.array([1, 2])), ROWS)


def test_rows_of_a_dataset_are_a_subset():
    data = torch.utils.data.TensorDataset(torch.tensor(ROWS))
    assert select_rows(data, np.array([2, 0]))[0][0].tolist() == ROWS[2].tolist()


def test_labels_that_come_with_samples():
    images = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    assert labels_of([(images[0], "a"), (images[1], "b")]).tolist() == ["a", "b"]
    data = torch.utils.data.TensorDataset(torch.rand(2, 3, 4, 4), torch.tensor([5, 7]))
    assert labels_of(data).tolist() == [5, 7]


@pytest.mark.parametrize("X", [["a.png"], np.zeros((2, 3)), []], ids=str)
def test_no_labels_come_with_other_samples(X):
    assert labels_of(X) is None
