import numpy as np
import pytest
import torch

import sktransfer
from sktransfer.activations._rows import storage_dtype, to_rows, to_tensor


def test_maps_are_kept_in_float16_and_vectors_in_float32():
    assert storage_dtype((3, 4, 4)) == np.float16
    assert storage_dtype((9, 4)) == np.float16
    assert storage_dtype((9,)) == np.float32


def test_float32_on_request():
    with sktransfer.config_context(activation_dtype="float32"):
        assert storage_dtype((3, 4, 4)) == np.float32


def test_rows_own_their_memory_and_come_back():
    z = torch.rand(3, 2, 4, 4)
    rows = to_rows(z)
    assert all(row.base is None for row in rows)
    torch.testing.assert_close(to_tensor(rows), z, rtol=1e-3, atol=1e-6)
    assert to_tensor(rows).dtype == torch.float32


@pytest.mark.parametrize("value", [1e6, -1e6, 1e-9, -1e-4, np.inf])
def test_row_that_float16_cannot_hold_stays_in_float32(value):
    z = torch.ones(3, 2, 2, 2)
    z[1] = value
    z[2, 0, 0, 0] = -1e-3
    rows = to_rows(z)
    assert [row.dtype for row in rows] == [np.float16, np.float32, np.float16]
    assert all(row.base is None for row in rows)
    assert torch.equal(to_tensor(rows)[:2], z[:2])


def test_row_of_zeros_comes_back():
    z = torch.zeros(2, 3, 4, 4)
    assert torch.equal(to_tensor(to_rows(z)), z)


def test_row_with_nan_stays_in_float32():
    z = torch.tensor([[[1.0, np.nan]]])
    (row,) = to_rows(z)
    assert row.dtype == np.float32
    np.testing.assert_array_equal(row, z[0])


def test_pixels_stay_pixels():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    assert torch.equal(to_tensor(to_rows(pixels)), pixels)
