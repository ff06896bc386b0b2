import pytest
import torch

from sktransfer.fitting._checkpoints import checkpoint_name
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
