import gc

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import _engine, _filled, process_store, run_filled
from sktransfer.activations._filled import _known
from sktransfer.compute import fixed_threads, map_state, n_samples


class Sizes(nn.Module):
    """Doubles, notes the sizes of batches, and rounds single samples otherwise."""

    def __init__(self, error=0.0):
        super().__init__()
        self.error = error
        self.seen = []

    def forward(self, z):
        n = n_samples(z)
        self.seen.append(n)
        error = self.error if n == 1 else 0.0
        return map_state(lambda part: 2 * part + error, z)


TRIAL = [1, 1, 1, 1, 4]
X = torch.arange(64.0)[None]


def test_single_sample_is_computed_alone_after_one_trial():
    network = Sizes()
    for _ in range(2):
        found = run_filled(network, X, 4, network, may_be_alone=True)
        assert torch.equal(found, 2 * X)
    assert network.seen == [*TRIAL, 1, 1]


def test_single_sample_is_filled_up_where_that_changes_its_values():
    network = Sizes(error=1e-6)
    for _ in range(2):
        found = run_filled(network, X, 4, network, may_be_alone=True)
        assert torch.equal(found, 2 * X)
    assert network.seen == [*TRIAL, 4, 4]


@pytest.mark.parametrize("n_values", [1, 63, 65, 96])
def test_single_sample_is_filled_up_where_a_vector_is_not_full(n_values):
    network, z = Sizes(), torch.rand(1, n_values)
    assert torch.equal(run_filled(network, z, 4, network, may_be_alone=True), 2 * z)
    assert network.seen == [1, 4]  # values at the end may be rounded otherwise


def test_single_samples_of_other_kinds_are_filled_up():
    network, group = Sizes(), {"a": X, "b": X}
    for z, how in [(group, True), (group, False), (X, False), (X.long(), True)]:
        found = run_filled(network, z, 4, network, may_be_alone=how)
        assert map_state(len, found) == map_state(len, z)
    assert network.seen == [4] * 4


def test_several_samples_are_filled_up():
    network = Sizes()
    for n in (3, 4):
        found = run_filled(network, torch.rand(n, 64), 4, network, may_be_alone=True)
        assert len(found) == n
    assert network.seen == [4, 4]


@pytest.mark.parametrize(
    "change",
    [
        lambda z: (torch.rand(1, 128), 4),
        lambda z: (z, 8),
        lambda z: (z.double(), 4),
    ],
    ids=["shape", "size", "dtype"],
)
def test_every_kind_of_batch_has_a_trial_of_its_own(change):
    network = Sizes()
    run_filled(network, X, 4, network, may_be_alone=True)
    (z, size) = change(X)
    run_filled(network, z, size, network, may_be_alone=True)
    assert network.seen == [*TRIAL, 1, *[1] * size, size, 1]


def test_trials_are_forgotten_with_the_network():
    network = Sizes()
    run_filled(network, X, 4, network, may_be_alone=True)
    before = len(_known)
    del network
    gc.collect()
    assert len(_known) == before - 1


def test_trial_is_right_about_real_layers():
    """What is computed alone equals its row of a whole batch, whatever its values."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.Flatten()
    )
    batch = torch.cat([torch.zeros(1, 3, 9, 9), torch.randn(3, 3, 9, 9) * 1e3])
    with torch.inference_mode(), fixed_threads():
        whole = network(batch)
        for i in range(len(batch)):
            alone = run_filled(network, batch[i : i + 1], 4, network, may_be_alone=True)
            assert torch.equal(alone[0], whole[i])


def test_features_are_the_same_alone_and_together():
    images = np.random.RandomState(0).randint(0, 256, (5, 40, 50, 3), np.uint8)
    extractor = PretrainedFeatureExtractor(image_size=32).fit(images)
    together = extractor.transform(images)
    process_store().clear()
    for image, row in zip(images, together, strict=True):
        assert np.array_equal(extractor.transform(image[None])[0], row)


def test_single_image_is_not_filled_up(monkeypatch):
    sizes, run = set(), _engine._run
    monkeypatch.setattr(
        _engine,
        "_run",
        lambda network, z, **how: (sizes.add(len(z)), run(network, z, **how))[1],
    )
    monkeypatch.setattr(_filled, "_try", lambda *args: True)
    images = np.random.RandomState(1).randint(0, 256, (1, 40, 50, 3), np.uint8)
    extractor = PretrainedFeatureExtractor(image_size=32)
    extractor.fit(images)
    sizes.clear()
    extractor.transform(images)
    assert sizes == {1}
