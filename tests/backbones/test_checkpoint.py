import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer.backbones._checkpoint import load_checkpoint, read_state_dict


def _network(seed=0, n_classes=3):
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.ModuleDict({"body": body, "fc": nn.Linear(4, n_classes)})


def _assert_equal(module, other):
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_checkpoint_is_loaded(tmp_path, ending):
    path, trained, fresh = tmp_path / f"w{ending}", _network(1), _network(2)
    save = save_file if ending == ".safetensors" else torch.save
    save(trained.state_dict(), str(path))
    load_checkpoint(fresh, path)
    _assert_equal(fresh, trained)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_ema"])
def test_wrappers_and_prefixes_are_taken_off(tmp_path, wrapper):
    path, trained, fresh = tmp_path / "w.pth", _network(1), _network(2)
    state = {f"module.{k}": v for k, v in trained.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3}, path)
    load_checkpoint(fresh, path)
    _assert_equal(fresh, trained)


def test_the_classifier_may_have_other_classes(tmp_path):
    path, trained, fresh = tmp_path / "w.pth", _network(1, 10), _network(2, 3)
    head = fresh["fc"].weight.clone()
    torch.save(trained.state_dict(), path)
    load_checkpoint(fresh, path, classifier=["fc"])
    _assert_equal(fresh["body"], trained["body"])
    assert torch.equal(fresh["fc"].weight, head)


def test_a_wrong_shape_names_the_tensor_and_changes_nothing(tmp_path):
    path, fresh = tmp_path / "w.pth", _network(2)
    before = _network(2)
    torch.save(_network(1, 10).state_dict(), path)
    with pytest.raises(
        ValueError, match=r"does not fit ModuleDict: 'fc.weight' has shape \(10, 4\)"
    ):
        load_checkpoint(fresh, path)
    _assert_equal(fresh, before)


def test_missing_and_surplus_tensors_are_named(tmp_path):
    path, state = tmp_path / "w.pth", _network(1).state_dict()
    state["other.weight"] = state.pop("body.0.weight")
    torch.save(state, path)
    with pytest.raises(
        ValueError, match="'body.0.weight' is missing; 'other.weight' is not in the"
    ):
        load_checkpoint(_network(), path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="There is no checkpoint file '.*w.pth'"
    ):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_truncated_file_says_so(tmp_path, ending):
    path = tmp_path / f"w{ending}"
    save = save_file if ending == ".safetensors" else torch.save
    save(_network(1).state_dict(), str(path))
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(ValueError, match="cannot be read; it may be truncated"):
        read_state_dict(path)


class _Harmful:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    path, mark = tmp_path / "w.pth", str(tmp_path / "was-run")
    torch.save({"weight": _Harmful(mark)}, path)
    with pytest.raises(ValueError, match="not plain weights.*a pickle can run code"):
        read_state_dict(path)
    path.write_bytes(pickle.dumps(_Harmful(mark)))
    with pytest.raises(ValueError, match="The checkpoint"):
        read_state_dict(path)
    assert not os.path.exists(mark)


@pytest.mark.parametrize("content", [{}, 3])
def test_a_file_without_weights_says_so(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds no weights by name"):
        read_state_dict(tmp_path / "w.pth")


def test_values_that_are_no_tensors_are_named(tmp_path):
    torch.save({"weight": torch.ones(2), "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"holds \['epoch'\], which are not tensors"):
        read_state_dict(tmp_path / "w.pth")
