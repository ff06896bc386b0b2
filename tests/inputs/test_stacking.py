"""Prepared samples as a batch."""

import numpy as np
import torch

from sktransfer.inputs._stacking import stacked


def test_arrays_and_groups_of_arrays_become_tensors_of_their_dtypes():
    arrays = [np.full((2, 3), k, np.uint8) for k in range(4)]
    batch = stacked(arrays)
    assert batch.dtype == torch.uint8
    np.testing.assert_array_equal(batch, np.stack(arrays))
    groups = [{"ids": np.arange(3) + k, "mask": np.ones(3, bool)} for k in range(2)]
    batch = stacked(groups)
    assert batch["ids"].tolist() == [[0, 1, 2], [1, 2, 3]]
    assert batch["mask"].dtype == torch.bool and batch["mask"].shape == (2, 3)


def test_batch_shares_no_memory_with_the_samples():
    array = np.zeros(3, np.float32)
    stacked([array]).add_(1)
    assert not array.any()
