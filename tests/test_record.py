import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import FineTunedClassifier, FineTunedRegressor
from sktransfer._record import check_unchanged, describe_network
from sktransfer.backbones import load_backbone
from tests._networks import SmallNetwork


def check(old, new):
    before, now = (describe_network({"head": value}) for value in (old, new))
    check_unchanged(before, now, "here", "do that")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mlp", "mlp"),
        (1, np.int64(1)),
        ((64, 64), [64, 64]),
        (None, None),
        (nn.LeakyReLU(0.1), nn.LeakyReLU(0.1)),
        (load_backbone(nn.Linear(2, 2)), None),
    ],
)
def test_the_same_network_goes_on(old, new):
    check(old, old if new is None else new)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("mlp", "linear", "Got head='linear' after head='mlp'; do that to start anew."),
        (1, True, "Got head=True after head=1;"),
        (nn.ReLU(), "mlp", "Got head='mlp' after head=<ReLU>;"),
        (
            nn.LeakyReLU(0.1),
            nn.LeakyReLU(0.2),
            "Got head=<LeakyReLU> whose content is not that of the first training; do",
        ),
        (lambda: 1, lambda: 2, "Got head=<<lambda>> whose content is not that of the"),
        (
            load_backbone(nn.Linear(2, 2)),
            load_backbone(nn.Linear(2, 2), random_state=1),
            "Got head=<Backbone> whose content is not that",
        ),
    ],
)
def test_another_network_does_not_go_on(old, new, text):
    with pytest.raises(ValueError, match=f"^`head` must stay as it is here, .* {text}"):
        check(old, new)


def test_files_go_by_content(tmp_path):
    path, other = tmp_path / "a.pt", tmp_path / "b.pt"
    path.write_bytes(b"one")
    other.write_bytes(b"one")
    before = describe_network({"weights": path})

    def go_on(path):
        check_unchanged(before, describe_network({"weights": path}), "here", "do that")

    go_on(str(path)), go_on(other)
    path.write_bytes(b"two")
    with pytest.raises(ValueError, match="a.pt whose content is not that of the first"):
        go_on(path)
    path.unlink()
    go_on(path)  # what was in it is loaded
    with pytest.raises(ValueError, match="Got weights=.*c.pt after weights="):
        go_on(Path("c.pt"))


def test_objects_of_other_versions_of_libraries_go_on(monkeypatch):
    before = describe_network({"head": nn.LeakyReLU(0.1)})
    monkeypatch.setattr(sys, "version", "4.0")
    now = describe_network({"head": nn.LeakyReLU(0.2)})
    check_unchanged(before, now, "here", "do that")


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ({"freeze": 8}, "partial fine-tuning"),
        ({"freeze": "none"}, "full fine-tuning"),
        (
            {"freeze": 8, "training__unfreeze_every": 1},
            "partial fine-tuning, gradual unfreezing",
        ),
        ({"freeze": 8, "training__adapter": "lora"}, "adapters (lora)"),
        ({"freeze": "all", "head": "cosine"}, "head"),
        ({"freeze": "all"}, "linear probe"),
    ],
)
def test_model_card_names_the_strategy(settings, strategy):
    X, y = load_digits(n_class=2, return_X_y=True)
    X, y = X.reshape(-1, 8, 8)[:8] / 16, y[:8]
    settings |= {"lr": 1e-5, "max_epochs": 2, "random_state": 0}
    model = FineTunedClassifier(SmallNetwork).set_params(**settings).fit(X, y)
    assert model.model_card_.trained["strategy"] == strategy


def test_partial_fit_counts_epochs():
    X, y = load_digits(n_class=2, return_X_y=True)
    X, y = X.reshape(-1, 8, 8)[:8] / 16, y[:8]
    model = FineTunedRegressor(SmallNetwork, freeze=8, lr=1e-5, random_state=0)
    model.partial_fit(X, y).partial_fit(X[:4], y[:4])
    trained = model.model_card_.trained
    assert (trained["epochs"], trained["samples"]) == (2, 8)
    assert trained["samples_later"] == 4
    assert trained["estimator"] == "FineTunedRegressor"
    assert "classes" not in trained
