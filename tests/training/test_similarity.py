import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images
from torch import nn

from sktransfer import FineTunedClassifier
from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing, as_samples
from sktransfer.training import (
    _similarity,
    choose_lr_ratio,
    run_network,
    similarity_from,
)

CPU = torch.device("cpu")
PREPROCESSING = ImagePreprocessing((16, 16), 16, "bilinear", (0.5,) * 3, (0.5,) * 3)
DIGITS = load_digits().images[:8] / 16


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("efficientnet_lite0", image_size=96)


def photographs():
    """Return crops of scikit-learn's two photographs."""
    images = load_sample_images().images
    places = [(r, c) for r in (0, 200) for c in (0, 120, 240, 360)]
    return [image[r : r + 224, c : c + 224] for image in images for r, c in places]


def ratio(backbone, X):
    return choose_lr_ratio(backbone, as_samples(X, backbone.preprocessing), CPU)


def test_rate_is_higher_for_samples_unlike_those_of_the_pretraining(backbone):
    assert ratio(backbone, photographs()) == 0.2
    assert ratio(backbone, DIGITS) == 0.5


def test_rate_without_batch_norm_is_the_low_one():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
    backbone = load_backbone(network, preprocessing=PREPROCESSING)
    assert ratio(backbone, DIGITS) == 0.2
    assert np.isnan(similarity_from({"0": []}))


def test_statistics_equal_to_those_of_the_network_are_no_divergence():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    backbone = load_backbone(network, preprocessing=PREPROCESSING)
    samples = as_samples(DIGITS, backbone.preprocessing)
    before, _ = run_network(backbone, samples, CPU, has_classifier=False)
    inputs = [backbone.preprocessing.prepare(samples[i]) for i in range(len(DIGITS))]
    x = backbone.preprocessing.to_input(torch.from_numpy(np.stack(inputs)))
    norm = backbone.module[1]
    norm.momentum = 1.0
    backbone.module.train()(x)
    backbone.module.eval()
    norm.running_var *= (x[:, 0, 2:, 2:].numel() - 1) / x[:, 0, 2:, 2:].numel()
    after, _ = run_network(backbone, samples, CPU, has_classifier=False)
    assert similarity_from(after) == pytest.approx(1, abs=1e-3)
    assert similarity_from(before) < similarity_from(after)


def test_fit_states_the_rate_and_keeps_it_in_later_trainings(backbone):
    y = np.arange(8) % 2
    settings = {"max_epochs": 1, "freeze": 8, "image_size": 32, "random_state": 0}
    model = FineTunedClassifier(**settings).fit(DIGITS, y)
    assert model.backbone_lr_ratio_ == 0.5
    rates = {group["initial_lr"] for group in model.net_.optimizer_.param_groups}
    assert rates == {model.lr, 0.5 * model.lr}
    model.partial_fit(DIGITS, y)
    assert model.backbone_lr_ratio_ == 0.5
    explicit = FineTunedClassifier(**settings)
    explicit.set_params(training__backbone_lr_ratio=0.5).fit(DIGITS, y)
    model.fit(DIGITS, y)
    np.testing.assert_array_equal(
        model.predict_proba(DIGITS), explicit.predict_proba(DIGITS)
    )
    head_only = FineTunedClassifier(freeze="all", image_size=32).fit(DIGITS, y)
    assert head_only.backbone_lr_ratio_ == 0.0


class Functional(nn.Module):
    """Takes the statistics of one BatchNorm, and calls another by keyword."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        x, norm = self.conv(x), self.first
        x = nn.functional.batch_norm(x, norm.running_mean, norm.running_var)
        return self.second(input=x).relu()


def test_batch_norms_that_are_not_called_are_left_out():
    backbone = load_backbone(Functional(), preprocessing=PREPROCESSING)
    samples = as_samples(DIGITS, backbone.preprocessing)
    found, _ = run_network(backbone, samples, CPU, has_classifier=False)
    assert sum(map(len, found.values())) == 1


def test_rate_is_not_measured_with_random_weights_or_few_values():
    random = load_backbone("efficientnet_lite0", weights=None, image_size=32)
    assert ratio(random, DIGITS) == 0.2
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
    rows = load_backbone(network, n_features=4, random_state=0)
    X = np.random.RandomState(0).randn(4, 4)
    assert ratio(rows, X) == 0.2


def test_rate_is_measured_once(backbone, monkeypatch):
    ratio(backbone, DIGITS)
    monkeypatch.setattr(_similarity, "run_network", None)
    assert ratio(backbone, DIGITS) == 0.5


class Noisy(nn.Module):
    """Draws random numbers, also in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.norm(self.conv(x + torch.rand_like(x))).relu()


@pytest.mark.filterwarnings("ignore:Samples go through Noisy one at a time")
def test_measuring_leaves_the_generator_of_torch_alone():
    backbone = load_backbone(Noisy(), preprocessing=PREPROCESSING)
    samples = as_samples(DIGITS, backbone.preprocessing)
    assert "draws" in backbone.impurity
    before = torch.get_rng_state()
    first, _ = run_network(backbone, samples, CPU, has_classifier=False)
    assert torch.equal(torch.get_rng_state(), before)
    second, _ = run_network(backbone, samples, CPU, has_classifier=False)
    assert first == second
