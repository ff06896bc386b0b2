import gc

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import _engine, _filled, process_store, run_filled
from sktransfer.activations._filled import _known
from sktransfer.compute import fixed_threads


class Sizes(nn.Module):
    """Doubles, notes the sizes of batches, and rounds single samples otherwise."""

    def __init__(self, error=0.0):
        super().__init__()
        self.error = error
        self.seen = []

    def forward(self, z):
        n = len(z["x"]) if isinstance(z, dict) else len(z)
        self.seen.append(n)
        error = self.error if n == 1 else 0.0
        if isinstance(z, dict):
            return {"x": 2 * z["x"] + error, "mask": z["mask"]}
        return 2 * z + error


@pytest.fixture(params=["tensor", "group"])
def sample(request):
    x = torch.arange(3.0)[None]
    return x if request.param == "tensor" else {"x": x, "mask": torch.ones(1, 3) > 0}


def _values(z):
    return z["x"] if isinstance(z, dict) else z


def test_single_sample_is_computed_alone_after_one_trial(sample):
    network = Sizes()
    for _ in range(2):
        found = run_filled(network, sample, 4, network)
        assert torch.equal(_values(found), 2 * _values(sample))
    assert network.seen == [4, 1, 1, 1]  # the first two are the trial


def test_single_sample_is_filled_up_where_that_changes_its_values(sample):
    network = Sizes(error=1e-6)
    for _ in range(2):
        found = run_filled(network, sample, 4, network)
        assert torch.equal(_values(found), 2 * _values(sample))
    assert network.seen == [4, 1, 4, 4]


def test_several_samples_are_filled_up():
    network = Sizes()
    assert len(run_filled(network, torch.rand(3, 2), 4, network)) == 3
    assert len(run_filled(network, torch.rand(4, 2), 4, network)) == 4
    assert network.seen == [4, 4]


@pytest.mark.parametrize(
    "change",
    [
        lambda z: (torch.rand(1, 2), 4),
        lambda z: (z, 8),
        lambda z: (z.double(), 4),
    ],
    ids=["shape", "size", "dtype"],
)
def test_every_kind_of_batch_has_a_trial_of_its_own(change):
    network, z = Sizes(), torch.rand(1, 3)
    run_filled(network, z, 4, network)
    run_filled(network, *change(z), network)
    assert len(network.seen) == 6


def test_trials_are_forgotten_with_the_network():
    network = Sizes()
    run_filled(network, torch.rand(1, 3), 4, network)
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
            alone = run_filled(network, batch[i : i + 1], 4, network)
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
    monkeypatch.setattr(_filled, "_is_same_alone", lambda *args: True)
    images = np.random.RandomState(1).randint(0, 256, (1, 40, 50, 3), np.uint8)
    extractor = PretrainedFeatureExtractor(image_size=32)
    extractor.fit(images)
    sizes.clear()
    extractor.transform(images)
    assert sizes == {1}
