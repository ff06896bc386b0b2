import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.backbones._checkpoint import load_checkpoint, read_state_dict


def network(n_classes=2, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential()
        module.add_module("a", nn.Linear(4, 6))
        module.add_module("norm", nn.BatchNorm1d(6))
        module.add_module("fc", nn.Linear(6, n_classes))
        return module


@pytest.fixture
def state():
    return network(seed=1).state_dict()


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "ckpt", "safetensors"])
@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_checkpoint_is_loaded(state, tmp_path, ending, convert):
    path = convert(save(state, tmp_path / f"weights.{ending}"))
    backbone = load_backbone(network(), weights=path)
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert backbone.weights == str(path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {"model_state_dict": s, "optimizer": {}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}},
        lambda s: {f"module.backbone.{k}": v for k, v in s.items()},
    ],
)
def test_wrappers_and_prefixes_are_taken_off(state, tmp_path, wrap):
    path = save(wrap(state), tmp_path / "weights.pth")
    found = read_state_dict(path)
    assert found.keys() == state.keys()
    assert torch.equal(found["a.weight"], state["a.weight"])


def test_missing_file(tmp_path):
    path = str(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint file '.*noth"):
        load_backbone(network(), weights=path)


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
        load_backbone(network(), weights=path)
    assert not victim.exists()
    path.write_bytes(pickle.dumps(Attack(victim), protocol=2))
    with pytest.raises(ValueError, match="is not plain weights"):
        load_backbone(network(), weights=path)
    assert not victim.exists()


def test_whole_module_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network(), path)
    with pytest.raises(ValueError, match="is not plain weights"):
        read_state_dict(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_truncated_file(state, tmp_path, ending):
    path = save(state, tmp_path / f"weights.{ending}")
    path.write_bytes(path.read_bytes()[:200])
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


def test_wrong_shape(state, tmp_path):
    state["a.weight"] = torch.zeros(6, 5)
    path = save(state, tmp_path / "weights.pth")
    module = network()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    text = (
        "weights.pth' does not fit Sequential: 'a.weight' has shape \\(6, 5\\), "
        "expected \\(6, 4\\)."
    )
    with pytest.raises(ValueError, match=text):
        load_checkpoint(module, path)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_missing_and_left_over_tensors(state, tmp_path):
    del state["a.bias"]
    state["b.bias"] = torch.zeros(2)
    path = save(state, tmp_path / "weights.pth")
    text = "Sequential: 'a.bias' is missing; 'b.bias' is not in the network."
    with pytest.raises(ValueError, match=text):
        load_backbone(network(), weights=path)


def test_another_architecture_names_three_tensors(tmp_path):
    state = {f"x{i}": torch.zeros(1) for i in range(5)}
    path = save(state, tmp_path / "weights.safetensors")
    text = "'a.weight' is missing; 'a.bias' is missing; 'norm.weight' is missing; and 8"
    with pytest.raises(ValueError, match=text):
        load_backbone(network(), weights=path)


def test_counters_of_batch_norm_may_be_missing(state, tmp_path):
    del state["norm.num_batches_tracked"]
    path = save(state, tmp_path / "weights.pth")
    backbone = load_backbone(network(), weights=path)
    assert torch.equal(backbone.module.norm.running_mean, state["norm.running_mean"])


def test_head_with_another_number_of_classes_is_left_as_it_is(tmp_path):
    state = network(n_classes=7, seed=1).state_dict()
    path = save(state, tmp_path / "weights.pth")
    module = network()
    backbone = load_backbone(module, weights=path)
    assert torch.equal(backbone.module.fc.weight, module.fc.weight)
    assert torch.equal(backbone.module.a.weight, state["a.weight"])
    with pytest.raises(ValueError, match="'fc.weight' has shape \\(7, 6\\), expected"):
        load_checkpoint(network(), path)


def test_head_may_be_missing(state, tmp_path):
    body = {k: v for k, v in state.items() if not k.startswith("fc.")}
    path = save(body, tmp_path / "weights.pth")
    backbone = load_backbone(network(), weights=path)
    assert torch.equal(backbone.module.a.weight, state["a.weight"])


def test_checkpoint_of_a_named_backbone(tmp_path, resnet18):
    state = resnet18.module.state_dict()
    path = save(state, tmp_path / "weights.safetensors")
    backbone = load_backbone("torchvision/resnet18", weights=path, image_size=64)
    assert backbone.weights == str(path)
    assert backbone.fingerprint == resnet18.fingerprint
    text = (
        "EfficientNet: 'bn1.weight' has shape \\(64,\\), expected \\(32,\\); .* more."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone("efficientnet_lite0", weights=path)


def test_prefix_that_the_network_has_stays(tmp_path):
    module = nn.Sequential()
    module.add_module("backbone", nn.Linear(4, 2))
    path = save(module.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone(module, weights=path)
    assert torch.equal(backbone.module.backbone.weight, module.backbone.weight)
    assert read_state_dict(path).keys() == {"weight", "bias"}
    assert read_state_dict(path, ["backbone.weight"]).keys() == {
        "backbone.weight",
        "backbone.bias",
    }
