import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.compute import Ranks
from sktransfer.inputs import VectorPreprocessing, as_samples
from sktransfer.model import ClassOutputs
from sktransfer.training import (
    LabelledSamples,
    Network,
    head_data,
    hold_out,
    sort_by_content,
)
from sktransfer.training._data import (
    ActivationBatches,
    ActivationDataset,
    Data,
    batches_in_order,
    merge_equal,
)

DIGESTS = [b"b", b"a", b"b", b"c", b"b"]
CODES = np.array([0, 1, 0, 1, 1])


def test_equal_samples_become_one_with_the_sum_of_the_weights():
    indices, weights = merge_equal(DIGESTS, CODES, np.array([1.0, 2.0, 4.0, 8.0, 16.0]))
    assert indices.tolist() == [1, 0, 4, 3]
    assert weights.tolist() == [2.0, 5.0, 16.0, 8.0]


def test_samples_without_weight_are_left_out():
    indices, weights = merge_equal(DIGESTS, CODES, np.array([0.0, 0.0, 1.0, 0.5, 0.0]))
    assert indices.tolist() == [2, 3] and weights.tolist() == [1.0, 0.5]
    indices, weights = merge_equal(DIGESTS, CODES, np.zeros(5))
    assert indices.shape == weights.shape == (0,)


def test_merging_does_not_depend_on_the_order():
    rng = np.random.RandomState(0)
    digests = [bytes([i]) for i in rng.randint(0, 20, 200)]
    codes, weight = rng.randint(0, 2, 200), rng.rand(200)
    indices, weights = merge_equal(digests, codes, weight)
    order = rng.permutation(200)
    shuffled = [digests[i] for i in order]
    again, same = merge_equal(shuffled, codes[order], weight[order])
    assert weights.tolist() == same.tolist()
    assert [digests[i] for i in indices] == [shuffled[i] for i in again]
    assert len(indices) == len({*zip(digests, codes, strict=True)})


STRATA = np.repeat([0, 1, 2, 3], [50, 20, 3, 1])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_every_class_stays_in_training(fraction):
    for seed in range(5):
        held = hold_out(STRATA, fraction, seed)
        rest = np.setdiff1d(np.arange(len(STRATA)), held)
        assert len(held) >= 1
        assert {*STRATA[rest]} == {0, 1, 2, 3}


def test_share_is_of_each_class():
    held = hold_out(STRATA, 0.3, 0)
    assert np.bincount(STRATA[held], minlength=4).tolist() == [15, 6, 1, 0]
    assert len({*held}) == len(held) and np.all(np.diff(held) > 0)


def test_share_depends_on_the_class_and_not_on_the_order():
    order = np.random.RandomState(0).permutation(len(STRATA))
    held = hold_out(STRATA[order], 0.3, 0)
    assert np.bincount(STRATA[order][held], minlength=4).tolist() == [15, 6, 1, 0]


def test_samples_without_classes_are_one_group():
    assert len(hold_out(np.zeros(40, dtype=int), 0.1, 0)) == 4


def test_seed_fixes_the_choice():
    first, again, other = (hold_out(STRATA, 0.2, seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_each_sample_is_held_out_by_some_seed():
    held = [hold_out(np.zeros(10, dtype=int), 0.2, seed) for seed in range(100)]
    assert {*np.concatenate(held)} == {*range(10)}


def test_one_sample_of_the_largest_class_where_shares_round_to_none():
    codes = np.repeat([0, 1, 2], [2, 4, 1])
    held = hold_out(codes, 0.05, 0)
    assert codes[held].tolist() == [1]


@pytest.mark.parametrize(("n", "n_held"), [(100, 20), (400, 50), (1000, 100)])
def test_more_of_few_samples_is_held_out(n, n_held):
    codes = np.arange(n) % 5
    held = hold_out(codes, "auto", 0)
    assert (np.bincount(codes[held]) == n_held / 5).all()


def test_small_classes_give_a_share_together():
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


def _dataset(n):
    z = torch.arange(n, dtype=torch.float32)[:, None]
    return ActivationDataset(z, torch.arange(n), torch.ones(n))


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (1, [1]), (5, [5]), (3, [3])],
)
def test_last_batch_of_one_is_merged(n, sizes):
    batches = ActivationBatches(_dataset(n), 4)
    assert [len(z) for z, _ in batches] == sizes
    assert len(batches) == len(sizes)


def test_order_is_kept_without_a_generator():
    seen = torch.cat([y for _, (y, _) in ActivationBatches(_dataset(10), 4)])
    assert torch.equal(seen, torch.arange(10))


def test_each_pass_is_shuffled_reproducibly():
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


def test_weights_of_a_dataset_have_a_mean_of_one():
    rng = np.random.RandomState(0)
    z = torch.from_numpy(rng.randn(60, 5))
    dataset = Data(z, torch.arange(60) % 3, 5 * rng.uniform(size=60)).dataset()
    assert dataset.sample_weight.dtype == torch.float32
    assert dataset.sample_weight.mean().item() == pytest.approx(1.0)
    found, (y, weight) = dataset[[3, 4]]
    assert torch.equal(found, z[3:5]) and y.tolist() == [0, 1] and len(weight) == 2


def test_views_share_the_weights_of_their_samples():
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(3, 2))
    views = [torch.ones(4, 3), torch.zeros(4, 3)]
    y, weight = torch.tensor([0, 1, 0, 1]), np.array([1.0, 2.0, 3.0, 4.0])
    data = head_data(network, views, y, weight, batch_size=2)
    torch.testing.assert_close(data.features, torch.cat(views))
    assert data.y.tolist() == [0, 1, 0, 1] * 2
    assert data.weight.tolist() == [0.5, 1.0, 1.5, 2.0] * 2
    assert data.groups.tolist() == [0, 1, 2, 3] * 2


# Labelled samples

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def labelled(rows, y, weight=None):
    samples = as_samples(rows, VectorPreprocessing(rows.shape[1]))
    outputs = ClassOutputs.learn(y)
    return LabelledSamples.of(
        samples, y, weight, outputs, lambda y, weight, outputs: weight
    )


def test_equal_samples_are_merged_and_those_without_weight_left_out():
    rows = np.concatenate([ROWS, ROWS[:1]])
    data = labelled(rows, [0, 1, 0, 1, 0], np.array([1.0, 2.0, 3.0, 0.0, 4.0]))
    assert len(data.samples) == 3 and sorted(data.weight) == [2, 3, 5]
    assert sorted(data.y) == [0, 0, 1]


def test_taken_samples_keep_their_digests():
    data = labelled(ROWS, [0, 1, 0, 1])
    rest, held = data.hold_out(np.array([1, 3]))
    assert held.samples.digests == [data.samples.digests[i] for i in (1, 3)]
    assert rest.samples.digests == [data.samples.digests[i] for i in (0, 2)]
    assert held.y.tolist() == data.y[[1, 3]].tolist() and len(rest.samples) == 2


def test_order_of_contents_does_not_depend_on_that_of_the_samples():
    one, other = (
        sort_by_content(as_samples(rows, VectorPreprocessing(3)))
        for rows in (ROWS, ROWS[::-1])
    )
    assert one.digests == other.digests == sorted(one.digests)


def test_equal_samples_are_warned_of():
    with pytest.warns(UserWarning, match="^All 2 samples are equal, so nothing"):
        labelled(np.ones((2, 3), dtype=np.float32), [0, 1])


def test_batches_of_processes_are_shares_of_those_of_one():
    whole = [*ActivationBatches(_dataset(9), 2, torch.Generator())]
    shares = [
        [*ActivationBatches(_dataset(9), 2, torch.Generator(), Ranks(rank, 3))]
        for rank in range(3)
    ]
    for (z, target), *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([share for share, _ in parts]), z)
        for _, others in parts:
            assert all(map(torch.equal, others, target))
    assert [len(z) for z, _ in shares[2]] == [0, 0, 0, 1]
