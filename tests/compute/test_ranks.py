import multiprocessing
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.compute import Ranks, ranks_of, resolve_device, shared_seed
from sktransfer.compute import _ranks as ranks

# What several processes do together is in test_engines_accelerate.py.


def make_network():
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU())


@pytest.fixture(autouse=True)
def _forget():
    """Ask accelerate again in each test."""
    ranks._of_accelerate.cache_clear()
    yield
    ranks._of_accelerate.cache_clear()


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("n_samples", [1, 2, 6, 16])
def test_shares_cover_a_batch_in_order(n, n_samples):
    shares = [Ranks(rank, n).share(n_samples) for rank in range(n)]
    rows = [[*range(n_samples)[share]] for share in shares]
    assert [row for some in rows for row in some] == [*range(n_samples)]
    lengths = [len(some) for some in rows]
    assert lengths[0] >= 1 and max(lengths) - min(lengths) <= 1


def test_processes_have_their_own_streams_and_the_first_that_of_one():
    assert Ranks(0, 4).seed(5) == Ranks().seed(5) == 5
    seeds = {Ranks(rank, 4).seed(seed) for rank in range(1, 4) for seed in (5, 6)}
    assert len(seeds) == 6 and all(0 <= seed < 2**31 for seed in seeds)


def test_one_process_keeps_what_it_has():
    one, layer = ranks_of("cpu"), nn.Linear(2, 2)
    layer.weight.grad = torch.ones(2, 2)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with one.together():
        one.copy_first(layer)
        one.sum_gradients(layer.parameters())
        one.check_equal(b"", "never")
    assert torch.equal(layer.weight.grad, torch.ones(2, 2)) and layer.bias.grad is None
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    value = torch.tensor(2.5)
    assert one.sum(value) is value and one.gather(value) is value
    assert one.agree("a") == "a" and one.collect("a") == ["a"]
    assert shared_seed(0, "cpu") == shared_seed(0, "accelerate")


def test_gradients_are_joined_with_what_exists():
    some, none = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))
    some.grad = torch.arange(6.0).reshape(2, 3)
    joined = ranks._join_gradients([some, none])
    assert joined.tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 1, 0]
    ranks._set_gradients([some, none], 2 * joined)
    assert torch.equal(some.grad, 2 * torch.arange(6.0).reshape(2, 3))
    assert none.grad is None
    joined[-1] = 1  # another process has a gradient
    ranks._set_gradients([some, none], joined)
    assert torch.equal(none.grad, torch.zeros(4))


def test_a_script_without_a_launcher_is_one_process():
    assert ranks_of("accelerate") == Ranks()
    assert resolve_device("accelerate") == resolve_device("auto")


def test_worker_processes_train_for_themselves(monkeypatch):
    worker = SimpleNamespace(name="LokyProcess-1", _identity=(1,))
    monkeypatch.setattr(multiprocessing, "current_process", lambda: worker)
    monkeypatch.setattr(ranks, "_of_accelerate", None)
    assert ranks_of("accelerate") == Ranks()
    assert resolve_device("accelerate") == resolve_device("auto")


@pytest.mark.parametrize(
    ("variables", "kind", "on_cpu"),
    [
        ({}, None, False),
        ({}, "cuda", False),
        ({"LOCAL_RANK": "0"}, None, True),
        ({"LOCAL_RANK": "0"}, "mps", True),
        ({"LOCAL_RANK": "0"}, "cuda", False),
        ({"LOCAL_RANK": "0", "ACCELERATE_USE_CPU": "true"}, "cuda", True),
    ],
    ids=str,
)
def test_accelerate_is_told_of_processes_on_the_cpu(
    monkeypatch, variables, kind, on_cpu
):
    for name in ("LOCAL_RANK", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = None if kind is None else torch.device(kind)
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: found
    )
    assert ranks._asks_for_cpu() == on_cpu


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    message = (
        r"`device='accelerate'` needs accelerate. Install it with: pip install "
        r"'sktransfer\[accelerate\]'"
    )
    extractor = PretrainedFeatureExtractor(device="accelerate", image_size=32)
    with pytest.raises(ImportError, match=message):
        extractor.fit([[[0.0] * 8] * 8] * 2)


def test_pickles_predict_on_the_cpu_without_accelerate(monkeypatch):
    X, y = [[0.0, 1.0], [1.0, 0.0], [0.5, 1.0], [1.0, 0.5]], [0, 1, 0, 1]
    model = FineTunedClassifier(make_network, device="accelerate", random_state=0)
    pickled = pickle.dumps(model.set_params(max_epochs=1).fit(X, y))
    expected = model.predict_proba(X)
    assert np.array_equal(pickle.loads(pickled).predict_proba(X), expected)
    ranks._of_accelerate.cache_clear()
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.warns(UserWarning, match="device='accelerate', which this machine"):
        found = pickle.loads(pickled)
    assert found.device == "accelerate"
    np.testing.assert_allclose(found.predict_proba(X), expected, atol=1e-6)
