import pytest
import torch

from sktransfer.training._batches import (
    ActivationBatches,
    ActivationDataset,
    batches_in_order,
)


def _dataset(n):
    z = torch.arange(n, dtype=torch.float32)[:, None]
    return ActivationDataset(z, torch.arange(n), torch.ones(n))


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (1, [1]), (5, [5]), (3, [3])],
)
def test_no_batch_of_one_beside_others(n, sizes):
    batches = ActivationBatches(_dataset(n), 4)
    assert [len(z) for z, _ in batches] == sizes
    assert len(batches) == len(sizes)


def test_order_is_kept_without_a_generator():
    seen = torch.cat([y for _, (y, _) in ActivationBatches(_dataset(10), 4)])
    assert torch.equal(seen, torch.arange(10))


def test_each_pass_is_shuffled_anew_and_reproducibly():
    def passes(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = ActivationBatches(_dataset(50), 8, generator)
        return [torch.cat([y for _, (y, _) in batches]) for _ in range(2)]

    first, second = passes(0)
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(50))
    assert all(
        torch.equal(a, b) for a, b in zip(passes(0), (first, second), strict=True)
    )


def test_activations_targets_and_weights_stay_together():
    for z, (y, weight) in ActivationBatches(_dataset(10), 4, torch.Generator()):
        assert torch.equal(z[:, 0].long(), y)
        assert len(weight) == len(y)


def test_batches_in_order_are_those_of_activations():
    batches = batches_in_order(_dataset(9), 4)
    assert isinstance(batches, ActivationBatches)
    assert [len(z) for z, _ in batches] == [4, 5]
    assert torch.equal(torch.cat([y for _, (y, _) in batches]), torch.arange(9))


def test_batches_in_order_are_those_of_a_dataset_of_samples():
    batches = batches_in_order(torch.utils.data.TensorDataset(torch.arange(9)), 4)
    assert [z.tolist() for (z,) in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
