import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.fitting._identity import (
    check_unchanged,
    checkpoint_name,
    describe_network,
)
from sktransfer.utils import describe

DATA = [b"data"]


def test_name_changes_with_settings_data_and_versions(monkeypatch):
    name = checkpoint_name({"lr": 0.1, "head": None}, DATA)
    assert len(name) == 32 and int(name, 16)
    assert name == checkpoint_name({"head": None, "lr": 0.1}, DATA)
    assert name == checkpoint_name({"head": None, "lr": describe(0.1)}, DATA)
    others = [
        checkpoint_name({"lr": 0.2, "head": None}, DATA),
        checkpoint_name({"head": 0.1, "lr": None}, DATA),
        checkpoint_name({"lr": 0.1, "head": None}, [b"other"]),
        checkpoint_name({"lr": 0.1, "head": None}, [b"da", b"ta"]),
    ]
    monkeypatch.setattr(torch, "__version__", "9.9")
    others.append(checkpoint_name({"lr": 0.1, "head": None}, DATA))
    assert len({name, *others}) == 6


def test_settings_that_cannot_be_described_have_no_name():
    settings = {"head": None, "augment": lambda x: eval("x"), "tta": (i for i in "a")}
    text = (
        r"^`checkpoint` needs .* cannot be described \(`augment`: code that uses "
        r"`eval`; `tta`: .*generator.*\). So no state is kept"
    )
    with pytest.warns(UserWarning, match=text):
        assert checkpoint_name(settings, DATA) is None


# Whether a training may go on


def check_change(old, new):
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
    check_change(old, old if new is None else new)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "mlp",
            "linear",
            "Got head='linear' after head='mlp'; do that to start",
        ),
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
    with pytest.raises(ValueError, match=f"^`head` must not change here, .* {text}"):
        check_change(old, new)


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
