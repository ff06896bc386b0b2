import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer.backbones._state_dict import read_state_dict, title_of


@pytest.fixture
def state():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_file_and_mapping_are_the_same(state, tmp_path, ending):
    path = save(state, tmp_path / f"weights.{ending}")
    for weights in (path, str(path), state):
        found = read_state_dict(weights)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state)
    assert title_of(path) == f"The checkpoint {str(path)!r}"
    assert title_of(state) == "The state dict in `weights`"


def test_names_in_mappings_are_joined(state, tmp_path):
    optimizer = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 1}]}
    content = {"net": {"ema": state}, "epoch": 3, "optimizer": optimizer}
    for weights in (content, save(content, tmp_path / "weights.pth")):
        assert [*read_state_dict(weights)] == ["net.ema.a.weight", "net.ema.a.bias"]
    with pytest.raises(ValueError, match="in `weights` holds no weights by name."):
        read_state_dict({"optimizer": optimizer, "epoch": 3})


def test_missing_file(tmp_path):
    path = str(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint file '.*noth"):
        read_state_dict(path)


class Attack:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickle_with_code_is_refused_and_not_run(tmp_path):
    path, victim = tmp_path / "weights.pth", tmp_path / "victim"
    torch.save({"a": Attack(victim)}, path)
    text = (
        "is not plain weights, and nothing else is loaded since a pickle can run code. "
        "Save it again with `torch.save\\(model.state_dict\\(\\), path\\)` or as safe"
    )
    with pytest.raises(ValueError, match=text):
        read_state_dict(path)
    assert not victim.exists()
    path.write_bytes(pickle.dumps(Attack(victim), protocol=2))
    with pytest.raises(ValueError, match="is not plain weights"):
        read_state_dict(path)
    assert not victim.exists()


def test_whole_module_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(nn.Linear(2, 3), path)
    with pytest.raises(ValueError, match="is not plain weights"):
        read_state_dict(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_truncated_file(state, tmp_path, ending):
    path = save(state, tmp_path / f"weights.{ending}")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read; it may be truncated or of"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [{}, [torch.zeros(2)], torch.zeros(2)])
def test_file_without_names(tmp_path, content):
    path = save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights.pth' holds no weights by name."):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [({"a": 1, "b": torch.zeros(2)}, "'a'"), ({0: torch.zeros(2)}, "0")],
)
def test_file_with_something_else(tmp_path, content, named):
    path = save(content, tmp_path / "weights.pth")
    text = f"holds \\[{named}\\], which are not tensors by name."
    with pytest.raises(ValueError, match=text):
        read_state_dict(path)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    "special",
    [
        lambda: torch.ones(2, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["meta", "sparse", "quantised"],
)
def test_tensors_that_are_not_plain_are_refused(state, special):
    text = (
        "holds \\['b'\\], which are quantised, sparse or without values \\(on the meta "
        "device\\). Its tensors must be plain ones."
    )
    with pytest.raises(ValueError, match=text):
        read_state_dict({**state, "b": special()})
