from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import FineTunedClassifier, config_context
from sktransfer.activations import process_store
from sktransfer.training import Network, training_precision, trains_in_bfloat16
from sktransfer.training import _bfloat16 as module
from tests._transformers import make_texts, save_network

CPU = torch.device("cpu")
TOKENS, VECTOR = (16, 64), (64,)
ENOUGH = 2_000_000  # multiply-adds per sample


def layer(**settings):
    return nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, **settings)


def asks(suffix, shape=TOKENS, work=ENOUGH):
    backbone = SimpleNamespace(
        activation_shape=lambda start: shape, multiply_adds=lambda start, stop: work
    )
    return trains_in_bfloat16(backbone, "a", "b", suffix, 32, CPU)


@pytest.fixture
def _supported(monkeypatch):
    monkeypatch.setattr(module, "gains_by_bfloat16", lambda device: True)


@pytest.mark.usefixtures("_supported")
def test_transformers_are_trained_in_bfloat16():
    assert asks(layer())
    assert asks(layer(), {"hidden": TOKENS, "mask": (16,)})
    patches = nn.Conv2d(3, 4, 4, 4)  # of the first stage
    assert asks(nn.Sequential(patches, *(layer() for _ in range(3))))


@pytest.mark.usefixtures("_supported")
@pytest.mark.parametrize(
    ("suffix", "changed"),
    [
        (layer(), {"work": 1_000}),
        (layer(), {"shape": VECTOR}),
        (nn.Identity(), {}),
        (nn.Conv2d(3, 16, 3), {}),
        (nn.Sequential(layer(), nn.Conv1d(64, 64, 3, groups=64)), {}),
        (nn.Sequential(nn.Linear(64, 64), nn.Conv1d(64, 64, 1)), {}),
    ],
    ids=["small", "vectors", "no stages", "convolution", "groups", "half of each"],
)
def test_other_networks_are_trained_in_float32(suffix, changed):
    assert not asks(suffix, **changed)


def test_setting_and_device_have_the_last_word(monkeypatch):
    for gains, precision in [(True, "bfloat16"), (False, "float32")]:
        monkeypatch.setattr(module, "gains_by_bfloat16", lambda device, g=gains: g)
        assert training_precision(CPU) == precision
        assert asks(layer()) == gains
        with config_context(precision="float32"):
            assert training_precision(CPU) == "float32"
            assert not asks(layer())


def test_pooling_head_and_weights_remain_in_float32():
    network = Network(layer(dropout=0.0), nn.Flatten(), nn.Linear(16 * 64, 2))
    z, seen = torch.randn(5, *TOKENS, generator=torch.Generator().manual_seed(0)), []
    network.pool.register_forward_hook(lambda pool, given, out: seen.append(given[0]))
    exact = network.scores(z)
    scores = network.scores(z, in_bfloat16=True)
    scores.sum().backward()
    assert [x.dtype for x in (*seen, scores)] == [torch.float32] * 3
    assert not torch.equal(exact, scores)
    torch.testing.assert_close(exact, scores, rtol=0.05, atol=0.05)
    assert {p.grad.dtype for p in network.parameters()} == {torch.float32}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Return the folder of a tiny BERT."""
    return save_network(tmp_path_factory.mktemp("bert"))


def probabilities(bert, precision="auto"):
    X, y = make_texts(24)
    model = FineTunedClassifier(bert, freeze=2, max_epochs=2, lr=1e-2, random_state=0)
    with config_context(precision=precision):
        return model.fit(X, y), model.predict_proba(X)


@pytest.mark.usefixtures("_supported")
def test_a_fit_in_bfloat16_is_repeated_exactly(bert, monkeypatch):
    monkeypatch.setattr(module, "_FEWEST", 1)
    process_store().clear()
    model, found = probabilities(bert)
    assert model.net_.in_bfloat16
    assert {p.dtype for p in model.module_.parameters()} == {torch.float32}
    _, again = probabilities(bert)  # from the store
    assert np.array_equal(found, again)
    exact_model, exact = probabilities(bert, "float32")
    assert not exact_model.net_.in_bfloat16
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=0.1)
